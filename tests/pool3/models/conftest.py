"""Shared by all tests of models: the seeded model, its engine, Keras' network, pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from pool3.gallery.scenes import draw_scene
from pool3.images.decode import decode_resized, resized
from pool3.models import ModelDirectory
from pool3.models.inception import (
    CONVOLUTIONS,
    STATISTICS,
    convolutions_by_depth,
    tensor_shapes,
)
from tests.conftest import REPOSITORY

Tensors = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="session")
def tensors(seeded: ModelDirectory) -> Tensors:
    return seeded.tensors()


@pytest.fixture(scope="session")
def scenes() -> npt.NDArray[np.uint8]:
    """32 different drawn pictures."""
    return np.stack([resized(draw_scene(seed), 299, "pil-bilinear") for seed in range(32)])


@pytest.fixture(scope="session")
def photos(shared_data: Path) -> list[bytes]:
    """Real photos, as files."""
    paths = sorted((shared_data / "flowers").glob("*/*.jpg"))
    return [path.read_bytes() for path in paths[:: len(paths) // 10]][:10]


@pytest.fixture(scope="session")
def photo_pixels(photos: list[bytes]) -> npt.NDArray[np.uint8]:
    return np.stack([decode_resized(data, size=299, resize="pil-bilinear").rgb for data in photos])


@pytest.fixture(scope="session")
def real_or_drawn(request: pytest.FixtureRequest) -> npt.NDArray[np.uint8]:
    """A few photos of the shared data where that is, else drawn pictures."""
    folder = REPOSITORY.parent / "shared" / "data" / "flowers"
    if not folder.is_dir():
        return request.getfixturevalue("scenes")[:6]
    pixels: npt.NDArray[np.uint8] = request.getfixturevalue("photo_pixels")
    return pixels[:6]


def _keras_network(tensors: Tensors, **options: Any) -> Any:
    """Keras' own Inception-v3 with given weights set in, matched by the creation of its layers."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    model = keras.applications.InceptionV3(weights=None, **options)

    def created(kind: type) -> list[Any]:
        # Automatic names are numbered as the layers are made; the first has no number.
        layers = [layer for layer in model.layers if isinstance(layer, kind)]
        return sorted(
            layers, key=lambda layer: int("".join(re.findall(r"_(\d+)$", layer.name)) or 0)
        )

    for layer, conv, norm in zip(
        CONVOLUTIONS,
        created(keras.layers.Conv2D),
        created(keras.layers.BatchNormalization),
        strict=True,
    ):
        conv.set_weights([tensors[f"{layer.name}/kernel"]])
        norm.set_weights([tensors[f"{layer.name}/{part}"] for part in STATISTICS[1:]])
    return model


@pytest.fixture(scope="session")
def keras_notop(tensors: Tensors) -> Any:
    return _keras_network(tensors, include_top=False, pooling="avg")


def _write_weights(
    path: Path,
    tensors: Mapping[str, npt.NDArray[np.float32]] | None = None,
    *,
    first: int = 1,
    name_of: Callable[[str, int], str] = "{}_{}".format,
) -> Path:
    """Write the HDF5 layout of Keras' own downloads; without tensors, zeros that take no space."""
    shapes = tensor_shapes()
    with h5py.File(path, "w") as file:
        names = []
        for layer in convolutions_by_depth():
            number = first + CONVOLUTIONS.index(layer)
            for stem, parts in (
                ("conv2d", ("kernel",)),
                ("batch_normalization", ("beta", "moving_mean", "moving_variance")),
            ):
                name = name_of(stem, number)
                names.append(name.encode())
                group = file.create_group(name)
                weights = [f"{name}/{part}:0" for part in parts]
                group.attrs["weight_names"] = [weight.encode() for weight in weights]
                for weight, part in zip(weights, parts, strict=True):
                    key = f"{layer.name}/{part}"
                    data = None if tensors is None else tensors[key]
                    group.create_dataset(weight, shapes[key], np.float32, data=data)
        file.attrs["layer_names"] = [*names, b"avg_pool"]
        file.create_group("avg_pool").attrs["weight_names"] = np.array([], "S1")
    return path


@pytest.fixture(scope="session")
def keras_network() -> Callable[..., Any]:
    return _keras_network


@pytest.fixture(scope="session")
def write_weights() -> Callable[..., Path]:
    return _write_weights
