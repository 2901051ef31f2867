from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pool3.errors import ModelError
from pool3.models import ModelDirectory, inception, load_model
from pool3.models.sources.keras_files import MAX_MEMBER_BYTES

Write = Callable[..., Path]
FIRST_KERNEL = "conv2d_1/conv2d_1/kernel:0"


@pytest.fixture(scope="module")
def keras_top(keras_network: Callable[..., Any], tensors: Any) -> Any:
    return keras_network(tensors, include_top=True, classes=3)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
@pytest.mark.parametrize("top", [False, True])
def test_whatever_keras_saves_is_the_same_model(
    keras_notop: Any, keras_top: Any, seeded: ModelDirectory, tmp_path: Path, top: bool, name: str
) -> None:
    model, path = keras_top if top else keras_notop, tmp_path / name
    (model.save_weights if "weights" in name else model.save)(path)
    assert load_model(str(path)).model_id == seeded.model_id
    path.unlink()


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_network_inside_of_another_model_is_found(
    keras_notop: Any, seeded: ModelDirectory, tmp_path: Path, name: str
) -> None:
    import keras

    path = tmp_path / name
    keras.Sequential([keras_notop, keras.layers.Dense(2)]).save(path)
    assert load_model(str(path)).model_id == seeded.model_id
    path.unlink()


def test_weights_without_layer_names_are_matched_by_the_files_order(
    keras_notop: Any, seeded: ModelDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "m.weights.h5"
    keras_notop.save_weights(path)
    with h5py.File(path, "r+") as file:
        for group in file["layers"].values():
            group["vars"].attrs.pop("name", None)
    assert load_model(str(path)).model_id == seeded.model_id


@pytest.mark.parametrize("first", [1, 95])
def test_numbers_may_start_anywhere(
    write_weights: Write, tensors: Any, seeded: ModelDirectory, tmp_path: Path, first: int
) -> None:
    path = write_weights(tmp_path / "m.h5", tensors, first=first)
    assert load_model(str(path)).model_id == seeded.model_id


def test_names_of_ones_own_are_matched_by_the_files_order(
    write_weights: Write, tensors: Any, seeded: ModelDirectory, tmp_path: Path
) -> None:
    def name_of(stem: str, number: int) -> str:
        return f"block{number * 7919 % 1009}_{stem}"

    path = write_weights(tmp_path / "m.h5", tensors, name_of=name_of)
    assert load_model(str(path)).model_id == seeded.model_id


@pytest.mark.parametrize(
    ("data", "look"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (pickle.dumps({"a": 1}), "pickle"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"\x00\x01\x02 something else", "begins with"),
        (b"\x89HDF\r\n\x1a\n", "damaged or cut short"),
        (b"PK\x03\x04 and no more", "damaged or cut short"),
    ],
)
@pytest.mark.parametrize("name", ["m.h5", "m.keras"])
def test_what_is_no_keras_file_says_what_it_looks_like(
    tmp_path: Path, data: bytes, look: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ModelError, match=look) as caught:
        load_model(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_a_file_cut_short_is_refused(write_weights: Write, tmp_path: Path, share: float) -> None:
    path = write_weights(tmp_path / "m.h5")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match="damaged or cut short"):
        load_model(str(path))


def test_a_kernel_of_another_shape_is_named_with_its_place(
    write_weights: Write, tmp_path: Path
) -> None:
    path = write_weights(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        del file["conv2d_2/conv2d_2/kernel:0"]
        file.create_dataset("conv2d_2/conv2d_2/kernel:0", (3, 3, 32, 33), np.float32)
    with pytest.raises(ModelError) as caught:
        load_model(str(path))
    for word in ("(3, 3, 32, 32)", "(3, 3, 32, 33)", "Conv2d_2a_3x3/kernel", "looks like"):
        assert word in str(caught.value)


def test_another_network_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        names = [f"conv{i}" for i in range(53)]
        file.attrs["layer_names"] = names
        for name in names:
            file.create_dataset(f"{name}/{name}/kernel:0", (3, 3, 3, 8), np.float32)
            file[name].attrs["weight_names"] = [f"{name}/kernel:0"]
    with pytest.raises(ModelError, match="found 53; this looks like ResNet50"):
        load_model(str(path))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(
    write_weights: Write, tmp_path: Path, value: float
) -> None:
    path = write_weights(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        file[FIRST_KERNEL][0, 0, 0, 0] = value
    with pytest.raises(ModelError, match="NaN or infinity"):
        load_model(str(path))


def test_a_negative_variance_is_refused(write_weights: Write, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        file["batch_normalization_1/batch_normalization_1/moving_variance:0"][3] = -1
    with pytest.raises(ModelError, match="variances of 0 or more"):
        load_model(str(path))


def test_a_bias_is_refused(write_weights: Write, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        group = file["conv2d_5"]
        group.create_dataset("conv2d_5/bias:0", (80,), np.float32)
        group.attrs["weight_names"] = ["conv2d_5/kernel:0", "conv2d_5/bias:0"]
    with pytest.raises(ModelError, match="found bias too"):
        load_model(str(path))


def replace_by_link(file: h5py.File, kind: str, outside: Path) -> None:
    dataset = file[FIRST_KERNEL]
    shape, size = dataset.shape, dataset.size * 4
    del file[FIRST_KERNEL]
    if kind == "external link":
        file[FIRST_KERNEL] = h5py.ExternalLink(str(outside), "/secret")
    elif kind == "soft link":
        file[FIRST_KERNEL] = h5py.SoftLink("/conv2d_2/conv2d_2/kernel:0")
    elif kind == "external bytes":
        file.create_dataset(FIRST_KERNEL, shape, np.float32, external=[(str(outside), 0, size)])
    else:
        layout = h5py.VirtualLayout(shape, np.float32)
        layout[...] = h5py.VirtualSource(str(outside), "/secret", shape)
        file.create_virtual_dataset(FIRST_KERNEL, layout)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external bytes", "virtual"])
def test_nothing_outside_of_the_file_is_read(
    write_weights: Write, tmp_path: Path, kind: str
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(os.urandom(4096))
    path = write_weights(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        replace_by_link(file, kind, outside)
    with pytest.raises(ModelError, match=r"expected .* inside of the file"):
        load_model(str(path))


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    bomb = zipped(
        {"config.json": bytes(MAX_MEMBER_BYTES["config.json"] + 1), "model.weights.h5": b""}
    )
    path.write_bytes(bomb)
    assert len(bomb) < 1 << 20
    with pytest.raises(ModelError, match="67108864 bytes at most"):
        load_model(str(path))


def test_a_zip_that_declares_less_than_it_holds_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"config.json": bytes(1 << 20), "model.weights.h5": b""}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = (10).to_bytes(4, "little")
    path = tmp_path / "m.keras"
    path.write_bytes(data)
    with pytest.raises(ModelError):
        load_model(str(path))


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(zipped({"word/document.xml": b"<a/>"}))
    with pytest.raises(ModelError, match=r"found word/document\.xml"):
        load_model(str(path))


def test_another_epsilon_is_refused(write_weights: Write, tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "m.weights.h5").read_bytes()
    layer = {"class_name": "BatchNormalization", "config": {"name": "odd", "epsilon": 0.01}}
    path = tmp_path / "m.keras"
    config = json.dumps({"config": {"layers": [{}, layer]}}).encode()
    path.write_bytes(zipped({"config.json": config, "model.weights.h5": weights}))
    with pytest.raises(ModelError, match=r"epsilon 0\.001, found 0\.01 in 'odd'"):
        load_model(str(path))


def configured(write_weights: Write, tmp_path: Path, *layers: object) -> Path:
    """A Keras file whose configuration has these layers."""
    weights = write_weights(tmp_path / "m.weights.h5").read_bytes()
    path = tmp_path / "m.keras"
    config = json.dumps({"config": {"layers": layers}}).encode()
    path.write_bytes(zipped({"config.json": config, "model.weights.h5": weights}))
    return path


def layer_config(kind: str, **settings: object) -> dict[str, object]:
    return {"class_name": kind, "config": settings}


def test_the_size_and_the_rescaling_of_a_model_are_kept(
    write_weights: Write, tmp_path: Path
) -> None:
    pictures = layer_config("InputLayer", batch_shape=[None, 224, 224, 3])
    rescaling = layer_config("Rescaling", scale=1 / 255, offset=0.0)
    model = load_model(str(configured(write_weights, tmp_path, pictures, rescaling)))
    assert model.input_size == 224
    assert model.variant == inception.Variant(divisor=(255.0,), offset=(0.0,))


@pytest.mark.parametrize("shape", [[None, 224, 320, 3], [None, 32, 32, 3]])
def test_a_size_that_cannot_be_kept_is_refused(
    write_weights: Write, tmp_path: Path, shape: list[object]
) -> None:
    path = configured(write_weights, tmp_path, layer_config("InputLayer", batch_shape=shape))
    with pytest.raises(ModelError, match="one square size of 75 pixels or more"):
        load_model(str(path))


def test_a_head_may_have_another_epsilon(write_weights: Write, tmp_path: Path) -> None:
    usual = [layer_config("BatchNormalization", epsilon=0.001)] * len(inception.CONVOLUTIONS)
    odd = layer_config("BatchNormalization", epsilon=1e-5)
    first = layer_config("Conv2D", filters=32, kernel_size=[3, 3], strides=[2, 2], padding="valid")
    path = configured(write_weights, tmp_path, first, *usual, odd)
    assert load_model(str(path)).input_size == 299


def test_whole_numbers_are_refused(write_weights: Write, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "m.h5")
    shape = inception.CONVOLUTIONS[0].kernel_shape
    with h5py.File(path, "r+") as file:
        del file[FIRST_KERNEL]
        file.create_dataset(FIRST_KERNEL, shape, np.int8)
    with pytest.raises(ModelError, match="found int8"):
        load_model(str(path))
