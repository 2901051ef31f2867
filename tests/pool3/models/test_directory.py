from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pool3.models.directory
from pool3 import storage
from pool3.engines import load_engine
from pool3.errors import ModelError, Pool3Error, UsageError
from pool3.images.profiles import IGNORED, SRGB
from pool3.models import ModelDirectory, copy_model, inception, load_model, read_model
from pool3.models.directory import model_from_tensors, with_colour
from pool3.models.identity import model_id_of
from pool3.models.inception import Variant


@pytest.fixture(scope="module")
def directory(seeded: ModelDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "a model: 1"
    seeded.write(str(path))
    return path


@pytest.fixture
def small(directory: Path, tmp_path: Path) -> Path:
    """A copy of its model.json alone."""
    (tmp_path / "model.json").write_bytes((directory / "model.json").read_bytes())
    return tmp_path


def test_what_was_written_is_read(seeded: ModelDirectory, directory: Path) -> None:
    model = load_model(str(directory))
    assert model == seeded
    assert model.graph == seeded.graph
    expected, actual = seeded.tensors(), model.tensors()
    assert expected.keys() == actual.keys()
    assert all(np.array_equal(tensor, actual[name]) for name, tensor in expected.items())
    assert sorted(path.name for path in directory.iterdir()) == [
        "graph.pb",
        "model.json",
        "weights.safetensors",
    ]


def test_a_copy_is_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    copy_model(str(directory), str(tmp_path / "copy"))
    for path in directory.iterdir():
        assert (tmp_path / "copy" / path.name).read_bytes() == path.read_bytes()


def test_the_notes_say_what_a_seeded_model_cannot_do(directory: Path) -> None:
    assert any("knows no meaning" in note for note in read_model(str(directory)).notes)


@pytest.mark.parametrize("name", ["graph.pb", "weights.safetensors"])
def test_a_flipped_bit_is_found_when_read(directory: Path, tmp_path: Path, name: str) -> None:
    for path in directory.iterdir():
        (tmp_path / path.name).symlink_to(path)
    data = bytearray((directory / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(data)
    model = read_model(str(tmp_path))
    with pytest.raises(Pool3Error, match="SHA-256"):
        model.graph if name == "graph.pb" else model.tensors()


def test_a_missing_file_is_named(small: Path) -> None:
    with pytest.raises(Pool3Error, match=r"graph\.pb"):
        _ = read_model(str(small)).graph


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format_version": 4}, "format_version 1, 2 or 3"),
        ({"colour": None}, "colour.*ignored or srgb"),
        ({"colour": "p3"}, "colour.*found 'p3'"),
        ({"variant": None}, "variant"),
        ({"variant": {"last_pool": "conv"}}, "variant"),
        (
            {"variant": {"last_pool": "max_pool", "divisor": [float("nan")], "offset": [0]}},
            "variant",
        ),
        ({"variant": {"last_pool": "max_pool", "divisor": [10**400], "offset": [0]}}, "variant"),
        ({"model_id": 5}, "model_id"),
        ({"model_id": "../../elsewhere"}, "model_id.*64 lower-case hexadecimal digits"),
        ({"input_size": 10**6}, "input_size.*1 to 4096, found 1000000"),
        ({"input_size": 0}, "input_size"),
        ({"input_size": -1}, "input_size.*found -1"),
        ({"input_size": True}, "input_size"),
        ({"feature_dimension": -1}, "feature_dimension"),
        ({"feature_dimension": 10**9}, "feature_dimension"),
        ({"feature_node": "pictures"}, "feature_node.*'features', found 'pictures'"),
        ({"resize": "nearest"}, "resize.*pil-bilinear.*found 'nearest'"),
        ({"resize": ""}, "resize"),
        ({"notes": [[]]}, "notes"),
        ({"feature_dimension": "2048"}, "feature_dimension"),
        ({"notes": None}, "notes"),
        ({"files": []}, "files"),
    ],
)
def test_damaged_facts_are_named(small: Path, change: dict[str, object], named: str) -> None:
    path = small / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=named):
        read_model(str(small))


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 100_000])
def test_deeply_nested_json_is_refused_in_one_sentence(small: Path, nested: str) -> None:
    (small / "model.json").write_text(nested)
    with pytest.raises(ModelError, match=r"model\.json, found one that is nested") as caught:
        read_model(str(small))
    assert len(str(caught.value)) < 300 + len(str(small))


OTHER_ID = "5" * 64


@pytest.fixture
def liar(directory: Path, tmp_path: Path) -> Callable[..., str]:
    """Write a copy of the directory whose model.json, or whose graph, says something else."""

    def write(*, graph: bytes | None = None, **change: object) -> str:
        folder = tmp_path / "liar"
        folder.mkdir()
        for path in directory.iterdir():
            (folder / path.name).symlink_to(path)
        fields = json.loads((directory / "model.json").read_text()) | change
        if graph is not None:
            (folder / "graph.pb").unlink()
            (folder / "graph.pb").write_bytes(graph)
            digest = hashlib.sha256(graph).hexdigest()
            fields["files"]["graph.pb"] = {"bytes": len(graph), "sha256": digest}
        (folder / "model.json").unlink()
        (folder / "model.json").write_text(json.dumps(fields))
        return str(folder)

    return write


def test_an_id_that_is_not_that_of_the_weights_is_refused(
    liar: Callable[..., str], seeded: ModelDirectory
) -> None:
    folder = liar(model_id=OTHER_ID)
    for use in (lambda: read_model(folder).graph, lambda: read_model(folder).graph_sha256):
        with pytest.raises(ModelError, match=f"{OTHER_ID} in .*liar.* of model {seeded.model_id}"):
            use()
    with pytest.raises(ModelError, match=OTHER_ID):
        load_model(folder)
    with pytest.raises(ModelError, match=OTHER_ID):
        copy_model(folder, f"{folder}-copy")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"resize": "tf1-bilinear"}, "of model [0-9a-f]{64}"),
        ({"colour": "ignored"}, "of model [0-9a-f]{64}"),
        ({"format_version": 2}, "of model [0-9a-f]{64}"),
        (
            {"variant": {"last_pool": "average_pool", "divisor": [128.0], "offset": [1.0]}},
            "of model [0-9a-f]{64}",
        ),
        ({"feature_dimension": 1024}, "feature_dimension 1024 .* found 2048"),
    ],
)
def test_other_lies_about_weights_and_graph_are_refused(
    liar: Callable[..., str], change: dict[str, object], named: str
) -> None:
    with pytest.raises(ModelError, match=named):
        load_model(liar(**change))


def test_an_input_size_that_the_graph_does_not_have_is_refused(
    liar: Callable[..., str], tensors: dict[str, np.ndarray]
) -> None:
    other = model_from_tensors(tensors, source="a test", input_size=150)
    folder = liar(input_size=150, model_id=other.model_id)
    with pytest.raises(ModelError, match=r"input_size 150 .* found \[299, 299\]"):
        load_model(folder)


def test_a_graph_of_other_weights_is_refused(
    liar: Callable[..., str], tensors: dict[str, np.ndarray]
) -> None:
    name = "Conv2d_1a_3x3/beta"
    other = model_from_tensors(tensors | {name: tensors[name] + 1}, source="a test")
    with pytest.raises(ModelError, match=r"graph in .*liar.* the weights beside it, found another"):
        load_model(liar(graph=other.graph))


def test_a_model_is_hashed_once(
    directory: Path, seeded: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = hashlib.sha256(seeded.graph).hexdigest()
    assert read_model(str(directory)).graph_sha256 == seeded.graph_sha256 == expected
    monkeypatch.setattr(pool3.models.directory, "model_id_of", None)
    monkeypatch.setattr(ModelDirectory, "tensors", None)
    assert read_model(str(directory)).graph == seeded.graph
    monkeypatch.setattr(storage, "verified_bytes", None)
    assert read_model(str(directory)).graph_sha256 == expected


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_what_is_no_model_json_is_refused(small: Path, text: str) -> None:
    (small / "model.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match=r"model\.json"):
        read_model(str(small))


@pytest.mark.parametrize("source", ["vgg16", "/no/such/directory", "photo.jpg"])
def test_an_unknown_source_lists_what_is_possible(source: str) -> None:
    with pytest.raises(UsageError, match=r"imagenet, seeded, a Keras file .* model directory"):
        load_model(source)


def test_a_keras_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"found no file or folder .*none\.keras"):
        load_model(str(tmp_path / "none.keras"))


@pytest.mark.parametrize("version", [1, 2])
def test_a_directory_of_an_older_format_is_read(version: int) -> None:
    model = load_model(str(Path(__file__).with_name(f"version_{version}")))
    assert (model.input_size, model.feature_dimension, model.resize) == (8, 3, "pil-bilinear")
    assert model.notes == (f"written by format version {version}",)
    assert model.colour == IGNORED
    assert model.variant == inception.STANDARD
    np.testing.assert_array_equal(model.tensors()["scale"], [1, 0.5])
    pictures = np.full((2, 8, 8, 3), (10, 20, 30), np.uint8)
    features = load_engine(model.graph, threads=1)(pictures)
    np.testing.assert_allclose(features, [(10, 20, 30)] * 2)


def test_a_directory_of_format_2_ignores_profiles_and_keeps_its_id(
    seeded: ModelDirectory, directory: Path, liar: Callable[..., str], tmp_path: Path
) -> None:
    before = with_colour(seeded, IGNORED)
    fields = {"format_version": 2, "model_id": before.model_id}
    model = load_model(liar(**fields))
    assert (model.colour, model.graph) == (IGNORED, seeded.graph)
    assert load_model(str(directory)).colour == SRGB
    model.write(str(tmp_path / "copy"))
    assert load_model(str(tmp_path / "copy")) == model
    assert with_colour(model, SRGB).model_id == seeded.model_id
    assert with_colour(model, IGNORED) is model
    with pytest.raises(UsageError, match="ignored, srgb, found 'p3'"):
        with_colour(model, "p3")


def test_another_resize_is_another_model_of_the_same_weights(
    seeded: ModelDirectory, directory: Path, tmp_path: Path
) -> None:
    model = load_model(str(directory), resize="tf1-bilinear")
    assert model.resize == "tf1-bilinear"
    assert model.model_id != seeded.model_id
    assert model.graph == seeded.graph
    model.write(str(tmp_path))
    assert load_model(str(tmp_path)) == model
    assert load_model(str(tmp_path), resize="pil-bilinear").model_id == seeded.model_id


def test_an_unknown_resize_is_refused(directory: Path) -> None:
    with pytest.raises(UsageError, match="tf1-bilinear, tf2-bilinear, found 'nearest'"):
        load_model(str(directory), resize="nearest")
    with pytest.raises(ModelError, match="its resize cannot be changed"):
        load_model(str(Path(__file__).with_name("version_1")), resize="tf1-bilinear")


@pytest.mark.parametrize(
    "variant",
    [
        Variant(last_pool="max_pool"),
        Variant(divisor=(128.0,)),
        Variant(offset=(1.0, 0.5, 0.25)),
    ],
)
def test_a_variant_is_another_model_and_is_kept(
    tensors: dict[str, np.ndarray], seeded: ModelDirectory, tmp_path: Path, variant: Variant
) -> None:
    model = model_from_tensors(tensors, source="a test", variant=variant)
    assert model.model_id != seeded.model_id
    assert model.graph != seeded.graph
    model.write(str(tmp_path))
    actual = load_model(str(tmp_path))
    assert (actual, actual.variant) == (model, variant)


@given(st.permutations(["a", "b/c", "d"]), st.integers(1, 5))
def test_the_id_depends_on_content_alone(names: list[str], length: int) -> None:
    facts = {"feature_node": "f", "resize": "r", "input_size": 9}
    tensors = {name: np.full(length, len(name), np.float32) for name in names}
    expected = model_id_of({name: tensors[name] for name in sorted(names)}, **facts)
    assert model_id_of(tensors, **facts) == expected
    strided = {name: np.repeat(tensor, 2)[::2] for name, tensor in tensors.items()}
    assert model_id_of(strided, **facts) == expected
    reshaped = tensors | {"a": tensors["a"].reshape(1, -1)}
    renamed = {("e" if name == "d" else name): tensor for name, tensor in tensors.items()}
    changed = tensors | {"a": np.nextafter(tensors["a"], np.float32(9))}
    for other in (reshaped, renamed, changed):
        assert model_id_of(other, **facts) != expected
    assert model_id_of(tensors, **facts, colour=IGNORED) == expected
    changes = {"feature_node": "g", "resize": "s", "input_size": 8, "colour": SRGB}
    for key, value in changes.items():
        assert model_id_of(tensors, **(facts | {key: value})) != expected
