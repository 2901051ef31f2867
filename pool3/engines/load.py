"""Loads a frozen graph into an engine.

The op allow-list is checked before an engine sees the graph. The library of an engine is imported
only when that engine is loaded.
"""

from __future__ import annotations

import ctypes
import logging
import time

import numpy as np
import numpy.typing as npt

from pool3.engines.choice import AUTO, capabilities, choose
from pool3.engines.engine import Engine
from pool3.engines.fidelity import is_faithful, probes
from pool3.errors import UsageError
from pool3.models.graph.graphdef import check_ops

log = logging.getLogger(__name__)


def load_engine(graph: bytes, *, name: str = AUTO, precision: str = AUTO, threads: int) -> Engine:
    """Load a frozen graph into an engine.

    Parameters
    ----------
    graph
        A serialised GraphDef with the nodes ``pictures`` and ``features``.
    name
        One of `ENGINES`, or ``auto``: the fastest on this machine.
    precision
        One of `PRECISIONS`, or ``auto``: the fastest that the machine computes natively and that
        keeps the features of this model accurate, else float32. Checking the accuracy costs one
        batch in float32 at each load.
    threads
        Threads that one call may use, 1 or more.

    Raises
    ------
    ModelError
        If the graph has an op that is not allowed, or the engine cannot load it.
    EngineMissing
        If the library of the engine is not installed.
    UsageError
        If the engine or the precision is unknown, the machine does not compute in that precision
        natively, or `threads` is less than 1.
    """
    chosen, fastest = choose(name, precision, capabilities())
    if threads < 1:
        raise UsageError(f"expected 1 thread or more for the engine, found {threads}")
    check_ops(graph)
    if precision == AUTO and fastest != "float32":
        return _load_faithful(graph, chosen, fastest, threads)
    engine = _load(graph, chosen, fastest, threads)
    # Lazy initialisation in the engine is a cost of loading, not of the first batch.
    engine(np.zeros((1, *engine.picture_shape, 3), np.uint8))
    _return_free_memory()
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
    seconds = time.monotonic() - started
    log.info(
        "loaded a graph of %d bytes into %s in %s in %.1f s", len(graph), name, precision, seconds
    )
    return engine


def _load_faithful(graph: bytes, name: str, fast: str, threads: int) -> Engine:
    """Load the engine in the fast precision if its features are accurate, else in float32.

    Only one engine is in memory at a time.
    """
    expected = _probe_features(_load(graph, name, "float32", threads))
    _return_free_memory()
    engine = _load(graph, name, fast, threads)
    faithful, worst = is_faithful(expected, _probe_features(engine))
    if not faithful:
        log.warning(
            "this model runs in float32: %s would change its features by %.3f of what "
            "distinguishes pictures; request that precision by name to use it anyway",
            fast,
            worst,
        )
        del engine
        engine = _load(graph, name, "float32", threads)
    _return_free_memory()
    return engine


def _probe_features(engine: Engine) -> npt.NDArray[np.float32]:
    return engine(probes(*engine.picture_shape))


def _return_free_memory() -> None:
    """Return free memory to the operating system, if the C library can (glibc).

    Loading and the first run copy all weights; the process would keep the memory of these copies,
    0.4 to 0.6 GB with TensorFlow.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
