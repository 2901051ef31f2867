"""What runs a model's frozen graph: one engine per process and model.

The op allow-list is checked before any engine sees the graph. An engine's library is imported only
when that engine is loaded.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pool3.engines.choice import AUTO, ENGINES, PRECISIONS, Capabilities, capabilities, choose
from pool3.engines.fidelity import is_faithful, probes
from pool3.engines.gpu import pin_gpu
from pool3.errors import UsageError
from pool3.models.graph.graphdef import check_ops

__all__ = [
    "AUTO",
    "ENGINES",
    "PRECISIONS",
    "Capabilities",
    "Engine",
    "cached_engine",
    "capabilities",
    "choose",
    "load_engine",
    "loads",
    "pin_gpu",
]

log = logging.getLogger(__name__)


class Engine(Protocol):
    """Runs one model.

    ``engine(pictures)`` takes uint8 ``(n, h, w, 3)``, RGB, and gives float32 ``(n, d)``; several
    threads may call it at once. ``name`` and ``precision`` say what really runs; ``picture_shape``
    is the (h, w) that it takes.
    """

    name: str
    precision: str
    picture_shape: tuple[int, int]

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Give the features of a batch of pictures."""


def load_engine(graph: bytes, *, name: str = AUTO, precision: str = AUTO, threads: int) -> Engine:
    """Load a frozen graph into an engine.

    Parameters
    ----------
    graph
        A serialised GraphDef with the nodes ``pictures`` and ``features``.
    name
        One of `ENGINES`, or ``auto``: what is fastest on this machine.
    precision
        One of `PRECISIONS`, or ``auto``: the fastest that the machine computes natively and that
        this model bears, which costs one batch in float32 at each load; float32 where it does not.
    threads
        Threads that one call may use, 1 or more.

    Raises
    ------
    ModelError
        If the graph has an op that is not allowed, or the engine cannot load it.
    EngineMissing
        If the engine's library is not installed.
    UsageError
        If there is no such engine or precision, the machine does not compute in that precision
        natively, or `threads` is less than 1.
    """
    chosen, fastest = choose(name, precision, capabilities())
    if threads < 1:
        raise UsageError(f"expected 1 thread or more for the engine, found {threads}")
    check_ops(graph)
    if precision == AUTO and fastest != "float32":
        return _faithful(graph, chosen, fastest, threads)
    engine = _load(graph, chosen, fastest, threads)
    # What is made lazily is made now: it is a cost of loading.
    engine(np.zeros((1, *engine.picture_shape, 3), np.uint8))
    return_free_memory()
    return engine


def _load(graph: bytes, name: str, precision: str, threads: int) -> Engine:
    started = time.monotonic()
    engine: Engine
    if name == "openvino":
        from pool3.engines.openvino_engine import OpenVINOEngine  # noqa: PLC0415

        engine = OpenVINOEngine(graph, threads=threads, precision=precision)
    else:
        from pool3.engines.tensorflow_engine import TensorFlowEngine  # noqa: PLC0415

        engine = TensorFlowEngine(graph, threads=threads, precision=precision)
    taken = time.monotonic() - started
    log.info(
        "loaded a graph of %d bytes into %s in %s in %.1f s", len(graph), name, precision, taken
    )
    return engine


def _faithful(graph: bytes, name: str, fast: str, threads: int) -> Engine:
    """Load the fast engine when the model bears its rounding, the exact one else.

    Only one of them is in memory at a time.
    """
    expected = _on_probes(_load(graph, name, "float32", threads))
    return_free_memory()
    engine = _load(graph, name, fast, threads)
    faithful, worst = is_faithful(expected, _on_probes(engine))
    if not faithful:
        log.warning(
            "this model runs in float32: %s would change its features by %.3f of what tells "
            "pictures apart; ask for that precision by name to have it all the same",
            fast,
            worst,
        )
        del engine
        engine = _load(graph, name, "float32", threads)
    return_free_memory()
    return engine


def _on_probes(engine: Engine) -> npt.NDArray[np.float32]:
    return engine(probes(*engine.picture_shape))


def return_free_memory() -> None:
    """Hand memory that is free back to the system, where the C library can (glibc).

    Loading and the first run make copies of all weights, which are gone afterwards: 0.4 to 0.6 GB
    with TensorFlow, which the process would hold on to.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_Key = tuple[str, str, str]


class _Cache:
    """The engines of this process, and how often one was loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[_Key, Engine] = {}
        self.loads = 0

    def get(self, key: _Key, load: Callable[[], Engine]) -> Engine:
        with self._lock:
            if key not in self._engines:
                engine = load()
                self.loads += 1
                # What auto came to is the same engine as that asked for by name.
                really = (key[0], engine.name, engine.precision)
                self._engines[key] = self._engines.setdefault(really, engine)
            return self._engines[key]


_cache = _Cache()


def cached_engine(
    model_id: str,
    graph: Callable[[], bytes],
    *,
    name: str = AUTO,
    precision: str = AUTO,
    threads: int,
) -> Engine:
    """Give this process's engine for a model, loading it on the first call.

    Parameters
    ----------
    model_id
        The model's id, by which the engine is kept, beside name and precision.
    graph
        Gives the graph's bytes; called only when the engine is not loaded yet.
    name, precision, threads
        As in `load_engine`; `threads` counts on the first call only.
    """

    def load() -> Engine:
        return load_engine(graph(), name=name, precision=precision, threads=threads)

    return _cache.get((model_id, name, precision), load)


def loads() -> int:
    """Give how many engines `cached_engine` has loaded in this process."""
    return _cache.loads
