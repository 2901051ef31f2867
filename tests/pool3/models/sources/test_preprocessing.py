"""Models that do something with pictures before the network, in each container of Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pool3.engines import load_engine
from pool3.engines.fidelity import centred_difference
from pool3.errors import ModelError
from pool3.images.decode import resized
from pool3.models import ModelDirectory, inception, load_model
from pool3.models.directory import model_from_tensors

LIMIT = 0.01
CONTAINERS = ("keras", "h5", "saved")


def divided(keras: Any, base: Any) -> Any:
    pictures = keras.Input((299, 299, 3))
    return keras.Model(pictures, base(pictures / 255.0))


def arithmetic(keras: Any, base: Any) -> Any:
    pictures = keras.Input((299, 299, 3))
    return keras.Model(pictures, base(2.0 * (pictures * (1 / 255)) - 1.0))


def subtracted_from(keras: Any, base: Any) -> Any:
    pictures = keras.Input((299, 299, 3))
    return keras.Model(pictures, base((200.0 - pictures) / np.array([90.0, 100.0, 110.0], "f4")))


def rescaled(keras: Any, base: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([keras.Input((224, 224, 3)), layers.Rescaling(1 / 127.5, -1), base])


def normalised(keras: Any, base: Any) -> Any:
    pictures = keras.Input((299, 299, 3))
    layer = keras.layers.Normalization(mean=[120.0, 110, 100], variance=[3600.0, 3500, 4000])
    return keras.Model(pictures, base(layer(pictures)))


def adapted(keras: Any, base: Any) -> Any:
    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(0, [250, 200, 150], (2, 299, 299, 3)))
    pictures = keras.Input((299, 299, 3))
    return keras.Model(pictures, base(layer(pictures)))


def flipped(keras: Any, base: Any) -> Any:
    pictures = keras.Input((299, 299, 3))
    return keras.Model(pictures, base(pictures[..., ::-1]))


def caffe(keras: Any, base: Any) -> Any:
    pictures = keras.Input((299, 299, 3))
    return keras.Model(pictures, base(keras.applications.resnet.preprocess_input(pictures) / 64.0))


def resizing(keras: Any, base: Any) -> Any:
    pictures = keras.Input((224, 224, 3))
    layers = keras.layers
    return keras.Model(
        pictures, base(layers.Rescaling(1 / 255)(layers.Resizing(299, 299)(pictures)))
    )


def cast(keras: Any, base: Any) -> Any:
    pictures = keras.Input((299, 299, 3), dtype="uint8")
    return keras.Model(pictures, base(keras.ops.cast(pictures, "float32") / 128.0 - 1.0))


def channels_first(keras: Any, base: Any) -> Any:
    pictures = keras.Input((3, 299, 299))
    return keras.Model(pictures, base(keras.layers.Permute((2, 3, 1))(pictures) / 255.0))


def with_lambda(keras: Any, base: Any) -> Any:
    pictures = keras.Input((299, 299, 3))
    layer = keras.layers.Lambda(lambda pixels: pixels / 100.0 - 1.0, output_shape=(299, 299, 3))
    return keras.Model(pictures, base(layer(pictures)))


def mirrored(keras: Any, base: Any) -> Any:
    pictures = keras.Input((299, 299, 3))
    return keras.Model(pictures, base(pictures[:, :, ::-1] / 255.0))


FOLDED = (
    divided, arithmetic, subtracted_from, rescaled, normalised, adapted, flipped, caffe, resizing,
    cast, channels_first,
)  # fmt: skip
CASES = [
    pytest.param(
        way,
        container,
        id=f"{way.__name__}-{container}",
        marks=pytest.mark.slow,  # the whole network in Keras
    )
    for way in FOLDED
    for container in CONTAINERS
]


@pytest.fixture(scope="module")
def base(keras_network: Callable[..., Any], tensors: Any) -> Any:
    """Keras' own network for pictures of any size, with the seeded weights."""
    return keras_network(tensors, include_top=False, pooling="avg", input_shape=(None, None, 3))


def saved(model: Any, folder: Path, container: str) -> Path:
    path = folder / ("saved" if container == "saved" else f"model.{container}")
    if container == "saved":
        model.export(str(path), verbose=False)
    else:
        model.save(path)
    return path


def pictures_for(model: Any, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same pictures as uint8 and as the input of a model."""
    shape = tuple(model.inputs[0].shape)
    size = shape[2]
    images = [Image.fromarray(picture) for picture in pixels]
    rgb = np.stack([resized(image, size, "pil-bilinear") for image in images])
    values = rgb.astype(model.inputs[0].dtype)
    return rgb, values.transpose(0, 3, 1, 2) if shape[1] == 3 else values


@pytest.mark.parametrize(("way", "container"), CASES)
def test_features_are_those_of_the_model_itself(
    way: Callable[..., Any],
    container: str,
    base: Any,
    seeded: ModelDirectory,
    real_or_drawn: np.ndarray,
    tmp_path: Path,
) -> None:
    import keras

    model = way(keras, base)
    rgb, values = pictures_for(model, real_or_drawn)
    if way is flipped:  # unscaled pixels are those that the caller has scaled
        values = values / 127.5 - 1
    expected = model.predict(values, verbose=0)
    imported = load_model(str(saved(model, tmp_path, container)))
    assert imported.input_size == rgb.shape[1]
    # The standard preprocessing in a model is that of a model without any.
    assert (imported.model_id == seeded.model_id) == (way is arithmetic)
    engine = load_engine(imported.graph, name="tensorflow", precision="float32", threads=2)
    assert centred_difference(expected, engine(rgb)).max() <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "container", "named"),
    [
        (with_lambda, "keras", "the Lambda layer 'lambda.*', which is code and is never run"),
        (with_lambda, "h5", "the Lambda layer 'lambda.*', which is code"),
        (mirrored, "keras", r"GetItem.*mirrors"),
        (mirrored, "h5", r"GetItem.*mirrors"),
        (mirrored, "saved", r"StridedSlice.*mirrors"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    way: Callable[..., Any], container: str, named: str, base: Any, tmp_path: Path
) -> None:
    import keras

    path = saved(way(keras, base), tmp_path, container)
    with pytest.raises(ModelError, match=named) as caught:
        load_model(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.slow
def test_both_engines_run_the_resize_of_a_graph(
    seeded: ModelDirectory, tensors: Any, real_or_drawn: np.ndarray
) -> None:
    variant = inception.Variant(network_size=299)
    model = model_from_tensors(tensors, source="a test", variant=variant, input_size=160)
    assert model.model_id != seeded.model_id
    images = [Image.fromarray(rgb) for rgb in real_or_drawn]
    small = np.stack([resized(image, 160, "pil-bilinear") for image in images])
    large = np.stack([resized(Image.fromarray(rgb), 299, "tf2-bilinear") for rgb in small])
    engines = {
        name: load_engine(model.graph, name=name, precision="float32", threads=2)
        for name in ("openvino", "tensorflow")
    }
    features = engines["openvino"](small)
    assert centred_difference(features, engines["tensorflow"](small)).max() <= LIMIT
    plain = load_engine(seeded.graph, name="openvino", precision="float32", threads=2)
    # Outside of a graph, the resize rounds to whole numbers.
    assert centred_difference(plain(large), features).max() <= 2 * LIMIT


def test_a_resize_outside_of_a_graph_is_that_of_keras(real_or_drawn: np.ndarray) -> None:
    import keras

    for size in (150, 331):
        expected = keras.layers.Resizing(size, size)(real_or_drawn.astype(np.float32))
        for rgb, values in zip(real_or_drawn, np.asarray(expected), strict=True):
            actual = resized(Image.fromarray(rgb), size, "tf2-bilinear")
            assert np.abs(actual - values).max() <= 0.501
