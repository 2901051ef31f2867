from __future__ import annotations

import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from pool3.engines import ENGINES, Engine, cached_engine, loads
from pool3.errors import ModelError
from tests.pool3.engines.mean_colour import mean_colour_graph


def unique_graph() -> tuple[str, bytes]:
    """A graph that no other test has loaded, and its digest."""
    graph = mean_colour_graph(axes=f"axes_{uuid.uuid4().hex}")
    return hashlib.sha256(graph).hexdigest(), graph


def test_a_graph_is_loaded_once_by_many_threads() -> None:
    (digest, graph), before, reads = unique_graph(), loads(), []

    def read() -> bytes:
        reads.append(1)
        return graph

    with ThreadPoolExecutor(8) as pool:
        engines = list(pool.map(lambda _: cached_engine(digest, read, threads=1), range(32)))
    assert len(set(map(id, engines))) == 1
    assert (loads() - before, len(reads)) == (1, 1)
    other, other_graph = unique_graph()
    assert cached_engine(other, lambda: other_graph, threads=1) is not engines[0]
    assert loads() - before == 2


def test_a_graph_with_another_digest_is_refused() -> None:
    (digest, _), (actual, graph), before = unique_graph(), unique_graph(), loads()
    with pytest.raises(ModelError, match=f"{digest}, found {actual}"):
        cached_engine(digest, lambda: graph, threads=1)
    assert loads() == before


def test_engines_and_precisions_are_kept_apart_and_auto_is_one_of_them() -> None:
    (digest, graph), before = unique_graph(), loads()

    def get(**options: str) -> Engine:
        return cached_engine(digest, lambda: graph, threads=1, **options)

    first = get()
    assert get(name=first.name, precision=first.precision) is first
    assert loads() - before == 1
    other = get(name=next(name for name in ENGINES if name != first.name), precision="float32")
    assert other.name != first.name
    assert get(name=other.name, precision="float32") is other
    assert get() is first
    assert loads() - before == 2


def test_a_load_that_fails_is_tried_again() -> None:
    (digest, graph), before = unique_graph(), loads()

    def unreadable() -> bytes:
        raise ModelError("it cannot be read")

    with pytest.raises(ModelError):
        cached_engine(digest, unreadable, threads=1)
    assert loads() == before
    assert cached_engine(digest, lambda: graph, threads=1) is not None
