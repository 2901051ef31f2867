from __future__ import annotations

import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pool3.engines import Engine, cached_engine, load_engine, loads
from pool3.errors import EngineMissing, ModelError, UsageError
from pool3.models.graphdef import GraphWriter, Shape


def mean_colour_graph(*, offender: str | None = None) -> bytes:
    """A graph of three numbers a picture: its mean colour."""
    floats, pixel, index = np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.int32)
    writer = GraphWriter()
    writer.node("Placeholder", "pictures", dtype=pixel, shape=Shape((-1, 4, 4, 3)))
    writer.node("Cast", "floats", "pictures", SrcT=pixel, DstT=floats)
    writer.constant("axes", np.array([1, 2], np.int32))
    writer.node("Mean", "features", "floats", "axes", T=floats, Tidx=index, keep_dims=False)
    if offender:
        writer.node(offender, "secret", "axes")
    return writer.serialise()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine(mean_colour_graph(), threads=1)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_an_engine_gives_a_row_a_picture(engine: Engine, n: int) -> None:
    pictures = np.random.default_rng(n).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    features = engine(pictures)
    assert features.shape == (n, 3)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, pictures.mean(axis=(1, 2)), rtol=1e-6)
    assert (engine.name, engine.precision) == ("tensorflow", "float32")


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((1, 4, 4, 3), np.float32),
        np.zeros((1, 5, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.uint8),
    ],
)
def test_other_pictures_are_refused(engine: Engine, pictures: np.ndarray) -> None:
    with pytest.raises(UsageError, match="expected pictures as uint8"):
        engine(pictures)


def test_an_op_that_reads_files_never_reaches_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ModelError, match=r"'ReadFile' of node 'secret'"):
        load_engine(mean_colour_graph(offender="ReadFile"), threads=1)


def test_a_graph_without_the_two_nodes_is_a_model_error() -> None:
    writer = GraphWriter()
    writer.constant("alone", np.array(1, np.float32))
    with pytest.raises(ModelError, match="'pictures' to 'features'"):
        load_engine(writer.serialise(), threads=1)


def test_missing_tensorflow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(EngineMissing, match=r"pip install 'pool3\[tensorflow\]'"):
        load_engine(mean_colour_graph(), threads=1)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="tensorflow, found 'abacus'"):
        load_engine(mean_colour_graph(), name="abacus", threads=1)
    with pytest.raises(UsageError, match="found 0"):
        load_engine(mean_colour_graph(), threads=0)


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


def test_a_load_that_fails_is_tried_again() -> None:
    model_id, before = uuid.uuid4().hex, loads()
    with pytest.raises(ModelError):
        cached_engine(model_id, lambda: b"broken", threads=1)
    assert loads() == before
    assert cached_engine(model_id, mean_colour_graph, threads=1) is not None
