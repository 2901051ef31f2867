from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from pool3.engines import ENGINES, Engine, cached_engine, loads
from pool3.errors import ModelError
from tests.pool3.engines.mean_colour import mean_colour_graph


def test_a_model_is_loaded_once_however_many_ask() -> None:
    model_id, before, graphs = uuid.uuid4().hex, loads(), []

    def graph() -> bytes:
        graphs.append(1)
        return mean_colour_graph()

    with ThreadPoolExecutor(8) as pool:
        engines = list(pool.map(lambda _: cached_engine(model_id, graph, threads=1), range(32)))
    assert len(set(map(id, engines))) == 1
    assert (loads() - before, len(graphs)) == (1, 1)
    assert cached_engine(uuid.uuid4().hex, graph, threads=1) is not engines[0]
    assert loads() - before == 2


def test_engines_and_precisions_are_kept_apart_and_auto_is_one_of_them() -> None:
    model_id, before = uuid.uuid4().hex, loads()

    def get(**options: str) -> Engine:
        return cached_engine(model_id, mean_colour_graph, threads=1, **options)

    first = get()
    assert get(name=first.name, precision=first.precision) is first
    assert loads() - before == 1
    other = get(name=next(name for name in ENGINES if name != first.name), precision="float32")
    assert other.name != first.name
    assert get(name=other.name, precision="float32") is other
    assert get() is first
    assert loads() - before == 2


def test_a_load_that_fails_is_tried_again() -> None:
    model_id, before = uuid.uuid4().hex, loads()
    with pytest.raises(ModelError):
        cached_engine(model_id, lambda: b"broken", threads=1)
    assert loads() == before
    assert cached_engine(model_id, mean_colour_graph, threads=1) is not None
