"""What runs a model's frozen graph: one engine per process and model.

The op allow-list is checked before any engine sees the graph. An engine is imported only when it is
asked for by name.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pool3.errors import UsageError
from pool3.models.graphdef import check_ops

log = logging.getLogger(__name__)

ENGINES = ("tensorflow",)


class Engine(Protocol):
    """Runs one model.

    ``engine(pictures)`` takes uint8 ``(n, h, w, 3)``, RGB, and gives float32 ``(n, d)``; several
    threads may call it at once.
    """

    name: str
    precision: str

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Give the features of a batch of pictures."""


def load_engine(graph: bytes, *, name: str = "tensorflow", threads: int) -> Engine:
    """Load a frozen graph into an engine.

    Parameters
    ----------
    graph
        A serialised GraphDef with the nodes ``pictures`` and ``features``.
    name
        One of `ENGINES`.
    threads
        Threads that one call may use, 1 or more.

    Raises
    ------
    ModelError
        If the graph has an op that is not allowed, or the engine cannot load it.
    EngineMissing
        If the engine's library is not installed.
    UsageError
        If there is no engine of that name, or `threads` is less than 1.
    """
    if name not in ENGINES:
        raise UsageError(f"expected an engine out of {', '.join(ENGINES)}, found {name!r}")
    if threads < 1:
        raise UsageError(f"expected 1 thread or more for the engine, found {threads}")
    check_ops(graph)
    from pool3.engines.tensorflow_engine import TensorFlowEngine  # noqa: PLC0415

    started = time.monotonic()
    engine = TensorFlowEngine(graph, threads=threads)
    log.info("loaded a graph of %d bytes into %s in %.1f s", len(graph), name, _since(started))
    return engine


def _since(started: float) -> float:
    return time.monotonic() - started


class _Cache:
    """The engines of this process, and how often one was loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[tuple[str, str], Engine] = {}
        self.loads = 0

    def get(self, key: tuple[str, str], load: Callable[[], Engine]) -> Engine:
        with self._lock:
            if key not in self._engines:
                self._engines[key] = load()
                self.loads += 1
            return self._engines[key]


_cache = _Cache()


def cached_engine(
    model_id: str, graph: Callable[[], bytes], *, name: str = "tensorflow", threads: int
) -> Engine:
    """Give this process's engine for a model, loading it on the first call.

    Parameters
    ----------
    model_id
        The model's id, by which the engine is kept.
    graph
        Gives the graph's bytes; called only when the engine is not loaded yet.
    name, threads
        As in `load_engine`; `threads` counts on the first call only.
    """

    def load() -> Engine:
        return load_engine(graph(), name=name, threads=threads)

    return _cache.get((model_id, name), load)


def loads() -> int:
    """Give how many engines `cached_engine` has loaded in this process."""
    return _cache.loads
