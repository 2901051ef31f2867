"""Engines and precisions give features of a model that find the same pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pool3.engines import ENGINES, Engine, capabilities, fidelity, load_engine
from pool3.engines.fidelity import LIMIT, centred_difference, is_faithful, probes
from pool3.images.decode import decode_resized
from pool3.models import ModelDirectory

Features = npt.NDArray[np.float32]
Run = Callable[..., tuple[Engine, Features]]

needs_bfloat16 = pytest.mark.skipif(
    not capabilities().cpu_bfloat16, reason="this CPU does not compute in bfloat16"
)


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> npt.NDArray[np.uint8]:
    paths = sorted((shared_data / "flowers").glob("*/*.jpg"))[::10]
    paths += sorted((shared_data / "clothing").rglob("*.jpg"))[::10]  # products on plain grounds
    return np.stack(
        [decode_resized(path.read_bytes(), size=299, resize="pil-bilinear").rgb for path in paths]
    )


@pytest.fixture(scope="module")
def run(photos: npt.NDArray[np.uint8], seeded: ModelDirectory) -> Run:
    @cache
    def features(name: str, precision: str) -> tuple[Engine, Features]:
        engine = load_engine(seeded.graph, name=name, precision=precision, threads=2)
        batches = [engine(photos[start : start + 16]) for start in range(0, len(photos), 16)]
        return engine, np.concatenate(batches)

    return features


def top_10_overlap(expected: Features, actual: Features) -> float:
    """Return how many of the ten nearest neighbours of a picture are the same, as a share."""
    nearest = []
    for features in (expected, actual):
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        similar = unit @ unit.T
        np.fill_diagonal(similar, -1)
        nearest.append(np.argsort(-similar, axis=1)[:, :10])
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*nearest, strict=True)]))


@pytest.mark.slow
def test_both_engines_give_the_same_in_float32(run: Run) -> None:
    reference, actual = (run(name, "float32")[1] for name in ENGINES)
    assert centred_difference(reference, actual).max() <= 0.001


@pytest.mark.slow
def test_auto_stays_within_the_limits(run: Run) -> None:
    reference = run("tensorflow", "float32")[1]
    engine, actual = run("auto", "auto")
    assert centred_difference(reference, actual).max() <= LIMIT, engine.precision
    assert top_10_overlap(reference, actual) >= 0.95, engine.precision


@pytest.mark.slow
@needs_bfloat16
@pytest.mark.parametrize("name", ENGINES)
def test_auto_keeps_bfloat16_where_the_model_bears_it(run: Run, name: str) -> None:
    assert run(name, "auto")[0].precision == "bfloat16"


@pytest.mark.slow
@needs_bfloat16
def test_auto_runs_a_model_that_does_not_bear_bfloat16_in_float32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seeded: ModelDirectory
) -> None:
    monkeypatch.setattr(fidelity, "_PROBE_LIMIT", 0.001)
    engine = load_engine(seeded.graph, name="openvino", threads=2)
    assert engine.precision == "float32"
    assert "this model runs in float32" in caplog.text


@pytest.mark.slow
@needs_bfloat16
@pytest.mark.parametrize("name", ENGINES)
def test_bfloat16_by_name_is_bfloat16_and_finds_the_same(run: Run, name: str) -> None:
    reference = run("tensorflow", "float32")[1]
    engine, actual = run(name, "bfloat16")
    assert (engine.name, engine.precision) == (name, "bfloat16")
    difference = centred_difference(reference, actual)
    assert np.median(difference) > 0.001  # else it would be float32 under another name
    assert difference.max() <= LIMIT
    assert top_10_overlap(reference, actual) >= 0.95


@pytest.mark.slow
@needs_bfloat16
@pytest.mark.parametrize("name", ENGINES)
def test_the_batch_size_changes_little_in_bfloat16(
    run: Run, name: str, photos: npt.NDArray[np.uint8]
) -> None:
    engine, together = run(name, "bfloat16")
    singly = np.concatenate([engine(photos[at : at + 1]) for at in range(4)])
    assert centred_difference(together, np.concatenate([singly, together[4:]])).max() <= 0.01


@pytest.mark.slow
@needs_bfloat16
def test_the_probes_stand_for_photos(run: Run) -> None:
    exact, fast = (run("openvino", precision) for precision in ("float32", "bfloat16"))
    pictures = probes(299, 299)
    on_probes = centred_difference(exact[0](pictures), fast[0](pictures)).max()
    on_photos = centred_difference(exact[1], fast[1]).max()
    assert 1 / 1.6 <= on_probes / on_photos <= 4


def test_centred_difference_is_in_units_of_what_tells_pictures_apart() -> None:
    expected = np.array([[101, 100], [99, 100]], np.float32)
    actual = np.array([[101, 100], [99, 100.5]], np.float32)
    np.testing.assert_allclose(centred_difference(expected, actual), [0, 0.5])
    assert is_faithful(expected, expected) == (True, 0)
    assert not is_faithful(expected, actual)[0]
    alike = np.ones((3, 2), np.float32)
    assert is_faithful(alike, alike)[0]
    assert not is_faithful(alike, alike + 1)[0]
    assert not is_faithful(alike, alike * np.nan)[0]


def test_probes_are_pictures_of_the_size_asked_for() -> None:
    pictures = probes(8, 12)
    assert pictures.shape[1:] == (8, 12, 3)
    assert pictures.dtype == np.uint8
    assert len(pictures) >= 2
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    np.testing.assert_array_equal(pictures, probes(8, 12))
