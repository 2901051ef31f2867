from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pool3.engines import ENGINES, Capabilities, Engine, load_engine
from pool3.errors import EngineMissing, ModelError, UsageError
from pool3.models.graph.graphdef import GraphWriter
from tests.pool3.engines.mean_colour import mean_colour_graph

BOTH = Capabilities(engines=frozenset(ENGINES))


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return load_engine(mean_colour_graph(), name=request.param, precision="float32", threads=1)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_an_engine_gives_a_row_a_picture(engine: Engine, n: int) -> None:
    pictures = np.random.default_rng(n).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    features = engine(pictures)
    assert features.shape == (n, 3)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, pictures.mean(axis=(1, 2)), rtol=1e-6)
    assert engine.precision == "float32"
    assert engine.picture_shape == (4, 4)


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


def test_threads_may_share_an_engine(engine: Engine) -> None:
    pictures = np.random.default_rng(5).integers(0, 256, (64, 4, 4, 3), dtype=np.uint8)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda at: engine(pictures[at : at + 1])[0], range(64)))
    np.testing.assert_allclose(np.stack(rows), engine(pictures), rtol=1e-6)


@pytest.mark.parametrize("name", ENGINES)
def test_features_outlive_the_next_call(name: str) -> None:
    engine = load_engine(mean_colour_graph(), name=name, precision="float32", threads=1)
    dark, light = (np.full((2, 4, 4, 3), value, np.uint8) for value in (10, 200))
    earlier = engine(dark)
    engine(light)
    np.testing.assert_allclose(earlier, 10)


@pytest.mark.parametrize("name", ["auto", *ENGINES])
def test_an_op_that_reads_files_never_reaches_an_engine(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def load(*_args: object) -> Engine:
        raise AssertionError("an engine saw the graph")

    monkeypatch.setattr("pool3.engines.load._load", load)
    with pytest.raises(ModelError, match=r"'ReadFile' of node 'secret'"):
        load_engine(mean_colour_graph(offender="ReadFile"), name=name, threads=1)


@pytest.mark.parametrize("name", ENGINES)
def test_a_graph_without_the_two_nodes_is_a_model_error(name: str) -> None:
    writer = GraphWriter()
    writer.constant("alone", np.array(1, np.float32))
    with pytest.raises(ModelError, match="'pictures' to 'features'"):
        load_engine(writer.serialise(), name=name, threads=1)


@pytest.mark.parametrize("name", ENGINES)
def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineMissing, match=rf"pip install '.\[{name}\]'"):
        load_engine(mean_colour_graph(), name=name, threads=1)


def test_a_library_that_does_not_load_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr("pool3.engines.load.capabilities", lambda: BOTH)
    with pytest.raises(EngineMissing, match=r"cannot be imported.*'.\[tensorflow\]'"):
        load_engine(mean_colour_graph(), name="tensorflow", precision="float32", threads=1)


def test_openvino_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert load_engine(mean_colour_graph(), threads=1).name == "openvino"


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="openvino, found 'abacus'"):
        load_engine(mean_colour_graph(), name="abacus", threads=1)
    with pytest.raises(UsageError, match="found 0"):
        load_engine(mean_colour_graph(), threads=0)
