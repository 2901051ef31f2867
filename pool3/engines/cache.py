"""The engines of this process: each graph is loaded once and shared by its tasks and threads.

Engines are shared by the digest of their graph, not by a ``model_id``, which a file may claim.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from pool3.engines.choice import AUTO
from pool3.engines.engine import Engine
from pool3.engines.load import load_engine
from pool3.errors import ModelError

_Key = tuple[str, str, str]


class _Cache:
    """Engines by graph, name and precision, and the number of loads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[_Key, Engine] = {}
        self.loads = 0

    def get(self, key: _Key, load: Callable[[], Engine]) -> Engine:
        with self._lock:
            if key not in self._engines:
                engine = load()
                self.loads += 1
                # "auto" and the explicit name of what it chose share one engine.
                explicit = (key[0], engine.name, engine.precision)
                self._engines[key] = self._engines.setdefault(explicit, engine)
            return self._engines[key]


_cache = _Cache()


def cached_engine(
    graph_sha256: str,
    graph: Callable[[], bytes],
    *,
    name: str = AUTO,
    precision: str = AUTO,
    threads: int,
) -> Engine:
    """Return the engine of this process for a graph; the first call loads it.

    Parameters
    ----------
    graph_sha256
        The SHA-256 of the graph; with `name` and `precision`, the key of the cache.
    graph
        Returns the bytes of the graph; called only if the engine is not loaded yet.
    name, precision, threads
        As in `load_engine`; `threads` has an effect on the first call only.

    Raises
    ------
    ModelError
        If the graph has another digest.
    """

    def load() -> Engine:
        data = graph()
        actual = hashlib.sha256(data).hexdigest()
        if actual != graph_sha256:
            raise ModelError(
                f"expected a graph with SHA-256 {graph_sha256}, found {actual}: its model was "
                "replaced; start again"
            )
        return load_engine(data, name=name, precision=precision, threads=threads)

    return _cache.get((graph_sha256, name, precision), load)


def loads() -> int:
    """Return how many engines `cached_engine` has loaded in this process."""
    return _cache.loads
