from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pool3.errors import ModelError
from pool3.models.pixels import Pixels
from pool3.models.preparation import prepared_model
from pool3.models.sources.keras_config import read_pixels

CONVOLUTION = {
    "class_name": "Conv2D",
    "config": {
        "name": "conv2d", "filters": 32, "kernel_size": [3, 3], "strides": [2, 2],
        "padding": "valid", "data_format": "channels_last",
    },
}  # fmt: skip


def layer(kind: str, name: str | None = None, **config: Any) -> dict[str, Any]:
    name = name or kind.lower()
    return {"class_name": kind, "name": name, "config": {"name": name, **config}}


def pixels_of(*layers: dict[str, Any], size: int | None = 299, **weights: Any) -> Pixels:
    """Read a sequential model of these layers and the first convolution."""
    pictures = layer("InputLayer", batch_shape=[None, size, size, 3])
    config = {"class_name": "Sequential", "config": {"layers": [pictures, *layers, CONVOLUTION]}}
    return read_pixels(config, lambda name: weights.get(name, {}))


def old_model(function: str, calls: list[Any]) -> dict[str, Any]:
    """A model as Keras 2 wrote it: one function between the input and the network."""
    step = layer("TFOpLambda", "step", function=function)
    layers = [
        {**layer("InputLayer", "pictures", batch_input_shape=[None, 299, 299, 3])},
        {**step, "inbound_nodes": calls},
        {**CONVOLUTION, "name": "conv2d", "inbound_nodes": [[["step", 0, 0, {}]]]},
    ]
    names = {"input_layers": [["pictures", 0, 0]], "output_layers": [["conv2d", 0, 0]]}
    return {"class_name": "Functional", "config": {"layers": layers, **names}}


@pytest.mark.parametrize(
    ("function", "calls", "scale", "shift"),
    [
        ("math.truediv", [["pictures", 0, 0, {"y": 255.0, "name": None}]], 1 / 255, 0),
        ("math.subtract", [["pictures", 0, 0, {"y": [[[[100.0, 100.0, 100.0]]]]}]], 1, -100),
        ("math.subtract", [["_CONSTANT_VALUE", -1, 1.0, {"y": ["pictures", 0, 0]}]], -1, 1),
        ("math.multiply", [["_CONSTANT_VALUE", -1, 2.0, {"y": ["pictures", 0, 0]}]], 2, 0),
        ("__operators__.add", [["pictures", 0, 0, {"y": 3.0}]], 1, 3),
        ("cast", [["pictures", 0, 0, {"dtype": "float32"}]], 1, 0),
    ],
)
def test_functions_of_keras_2(function: str, calls: Any, scale: float, shift: float) -> None:
    pixels = read_pixels(old_model(function, calls), lambda _: {})
    np.testing.assert_allclose(pixels.scale, [scale] * 3)
    np.testing.assert_allclose(pixels.shift, [shift] * 3)
    assert pixels.source == (0, 1, 2)


@pytest.mark.parametrize(
    "calls",
    [
        [["pictures", 0, 0, {"axis": [-1]}]],
        [["pictures", 0, 0, {"axis": -1}]],
    ],
)
def test_a_flip_of_keras_2(calls: Any) -> None:
    assert read_pixels(old_model("reverse", calls), lambda _: {}).source == (2, 1, 0)


def test_a_slice_of_keras_2() -> None:
    spec = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]
    model = old_model("__operators__.getitem", [["pictures", 0, 0, {"slice_spec": spec}]])
    assert read_pixels(model, lambda _: {}).source == (2, 1, 0)


@pytest.mark.parametrize("function", ["math.log", "image.rgb_to_grayscale", "py_function"])
def test_an_unknown_function_is_refused_by_name(function: str) -> None:
    model = old_model(function, [["pictures", 0, 0, {}]])
    with pytest.raises(ModelError, match=f"'step' .*{function}"):
        read_pixels(model, lambda _: {})


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ([layer("Lambda", "mine", function="code")], "Lambda layer 'mine', which is code"),
        ([layer("BatchNormalization")], "BatchNormalization"),
        ([layer("ZeroPadding2D")], "ZeroPadding2D"),
        ([layer("CenterCrop", height=200, width=200)], "CenterCrop"),
        ([layer("MyLayer")], "MyLayer"),
        ([{**layer("Rescaling", scale=1), "registered_name": "mine>Rescaling"}], "Rescaling"),
        ([{**layer("Rescaling", scale=1), "module": "mine.layers"}], "Rescaling"),
        ([layer("Activation", activation="tanh")], "Activation.*not linear"),
        ([layer("Resizing", height=299, width=200)], "not to a square"),
        ([layer("Resizing", height=150, width=150, interpolation="nearest")], "nearest"),
        ([layer("Resizing", height=150, width=150, crop_to_aspect_ratio=True)], "crop_to_aspect"),
        ([layer("Resizing", height=size, width=size) for size in (150, 99)], "twice"),
        ([layer("Normalization", mean=None, variance=None)], "not in the file"),
        ([layer("Normalization", axis=1, mean=[1], variance=[1])], "each position"),
        ([layer("Rescaling", scale=0.0)], "multiplies by 0"),
        ([layer("Rescaling", scale="x")], "'x'"),
        ([layer("Permute", dims=[1, 2, 2])], "permutes axes"),
        ([layer("Cast", dtype="int32")], "rounds numbers to int32"),
        ([layer("Functional")], "Functional"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(layers: Any, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        pixels_of(*layers)


def test_what_only_changes_pictures_in_training_is_ignored() -> None:
    augmentation = {
        **layer("Sequential", layers=[layer("RandomFlip"), layer("RandomRotation", factor=0.1)])
    }
    assert pixels_of(augmentation, layer("Dropout", rate=0.5)) == Pixels(size=299)


def test_an_adapted_normalisation_reads_its_weights() -> None:
    weights = {"mean": np.array([1.0, 2, 3]), "variance": np.array([4.0, 16, 0])}
    pixels = pixels_of(layer("Normalization", mean=None, variance=None), normalization=weights)
    np.testing.assert_allclose(pixels.scale, [0.5, 0.25, 1e7])
    np.testing.assert_allclose(pixels.shift, [-0.5, -0.5, -3e7])


def test_pictures_of_any_size_are_resized_by_the_model() -> None:
    pixels = pixels_of(layer("Resizing", height=150, width=150), size=None)
    assert (pixels.size, pixels.resized) == (None, 150)
    assert pixels_of(layer("Resizing", height=299, width=299)).resized is None


def test_a_model_without_the_first_convolution_is_refused() -> None:
    with pytest.raises(ModelError, match="first convolution"):
        read_pixels({"class_name": "Sequential", "config": {"layers": []}}, lambda _: {})


@pytest.mark.parametrize(
    ("scale", "offset", "divisor", "is_unit"),
    [
        (1 / 255, 0.0, 255.0, False),
        (1 / 43, -75 / 43, 43.0, False),  # 255 becomes 4.2
        (1 / 10, -2.0, 10.0, False),
        (1.0, -103.9, 1.0, False),
        (2.0, -1.0, 127.5, True),
        (1.0, -0.5, 255.0, True),
    ],
)
def test_the_range_of_an_input_follows_from_its_scale(
    tensors: Any, scale: float, offset: float, divisor: float, is_unit: bool
) -> None:
    pixels = pixels_of(layer("Rescaling", scale=scale, offset=offset))
    model = prepared_model(tensors, pixels, source="a test")
    assert model.variant.divisor == (divisor,)
    assert model.variant.offset == pytest.approx((-offset,), abs=1e-6)
    assert bool(model.notes) == is_unit


def test_a_scale_of_no_usual_range_is_refused(tensors: Any) -> None:
    pixels = pixels_of(layer("Rescaling", scale=255.0))
    with pytest.raises(ModelError, match=r"0\.\.255 or 0\.\.1 .* multiplied by"):
        prepared_model(tensors, pixels, source="a test")
