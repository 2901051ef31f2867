"""Describes the layers and operations of Keras that may stand before a network, by `Pixels`.

The names are those of the layers, of the operations of Keras 3 (``x / 255`` is ``TrueDivide``) and
of the functions in files of Keras 2 (``TFOpLambda`` of ``math.truediv``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pool3.errors import ModelError
from pool3.models.pixels import Pixels, joined, stacked

_MIN_DEVIATION = 1e-7
"""Least standard deviation that ``Normalization`` divides by."""

_FLOATS = ("float16", "bfloat16", "float32", "float64", "float", "double", "half")


@dataclass(frozen=True)
class Step:
    """A call of a layer or an operation.

    Parameters
    ----------
    kind
        The name of its class.
    config
        Its configuration.
    arguments, options
        The arguments of the call; tensors are `Pixels`.
    """

    kind: str
    config: dict[str, Any]
    arguments: list[Any]
    options: dict[str, Any]

    def operand(self, position: int, *names: str) -> Any:
        """Return an argument by its position or by one of its names; None if it is absent."""
        if position < len(self.arguments):
            return self.arguments[position]
        return next((self.options[name] for name in names if name in self.options), None)

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a setting of the configuration or of the call."""
        return self.options.get(name, self.config.get(name, default))

    def pixels(self) -> Pixels:
        """Return the only tensor that it works on."""
        value = self.operand(0, "x", "input", "inputs", "images", "input_tensor", "tensor")
        if not isinstance(value, Pixels):
            raise ModelError("it works on a constant or on several tensors")
        return value


Weights = Callable[[], Mapping[str, Any]]


def describe_step(step: Step, weights: Weights) -> Any:
    """Return the pixels behind a layer or an operation, or a list if it has several outputs.

    Raises
    ------
    ModelError
        If it is not understood; the message says why, or is empty.
    """
    if step.kind in ("TFOpLambda", "SlicingOpLambda"):
        return _describe_function(step)
    if step.kind == "Normalization":
        return _normalise(step, weights)
    describe = _STEPS.get(step.kind)
    if describe is None:
        raise ModelError("")
    return describe(step)


def _describe_function(step: Step) -> Any:
    name = str(step.config.get("function")).removeprefix("tf.")
    describe = _FUNCTIONS.get(name)
    if describe is None:
        raise ModelError(f"the function {name!r} is not known")
    return describe(step)


def _unchanged(step: Step) -> Pixels:
    if step.setting("activation", "linear") != "linear":
        raise ModelError("its activation is not linear")
    return step.pixels()


def _only_in_training(step: Step) -> Pixels:
    if step.options.get("training"):
        raise ModelError("it is used as in training")
    return step.pixels()


def _operands(step: Step) -> tuple[Any, Any]:
    """Return both operands, of which one is `Pixels`."""
    first = step.operand(0, "x1", "x", "a")
    second = step.operand(1, "x2", "y", "b")
    if isinstance(first, Pixels) == isinstance(second, Pixels):
        raise ModelError("it computes with two tensors")
    return first, second


def _add(step: Step) -> Pixels:
    first, second = _operands(step)
    pixels, constant = (first, second) if isinstance(first, Pixels) else (second, first)
    result: Pixels = pixels.added(constant)
    return result


def _subtract(step: Step) -> Pixels:
    first, second = _operands(step)
    if isinstance(first, Pixels):
        return first.added(-np.asarray(second, np.float64))
    result: Pixels = second.multiplied(-1.0).added(first)
    return result


def _multiply(step: Step) -> Pixels:
    first, second = _operands(step)
    pixels, constant = (first, second) if isinstance(first, Pixels) else (second, first)
    result: Pixels = pixels.multiplied(constant)
    return result


def _divide(step: Step) -> Pixels:
    first, second = _operands(step)
    if not isinstance(first, Pixels):
        raise ModelError("it divides by pixels")
    return first.divided(second)


def _negate(step: Step) -> Pixels:
    return step.pixels().multiplied(-1.0)


def _rescale(step: Step) -> Pixels:
    scale, offset = step.config.get("scale"), step.config.get("offset", 0.0)
    return step.pixels().multiplied(_plain(scale)).added(_plain(offset))


def _plain(value: Any) -> Any:
    """Return the numbers of a setting, which may be a serialised array."""
    if isinstance(value, dict):
        return (value.get("config") or {}).get("value")
    return value


def _normalise(step: Step, weights: Weights) -> Pixels:
    pixels, axes = step.pixels(), step.config.get("axis", -1)
    mean, variance = _plain(step.config.get("mean")), _plain(step.config.get("variance"))
    if mean is None or variance is None:
        tensors = weights()
        mean = tensors.get("mean", tensors.get("kernel"))
        variance = tensors.get("variance", tensors.get("bias"))
        if mean is None or variance is None:
            raise ModelError("its mean and variance are not in the file")
    axes = [] if axes is None else axes if isinstance(axes, list) else [axes]
    if any(pixels.axis(int(axis)) != "c" for axis in axes):
        raise ModelError("it normalises each position by itself")
    shape = [len(pixels.source) if axis == "c" and axes else 1 for axis in pixels.axes]
    centre = _broadcast(mean, shape)
    deviation = np.maximum(np.sqrt(_broadcast(variance, shape)), _MIN_DEVIATION)
    if step.config.get("invert"):
        return pixels.multiplied(deviation).added(centre)
    return pixels.added(-centre).divided(deviation)


def _broadcast(value: Any, shape: list[int]) -> Any:
    values = np.asarray(value[()] if hasattr(value, "shape") else value, np.float64)
    return np.broadcast_to(values.reshape(-1), (max(shape),)).reshape(shape)


def _permute(step: Step) -> Pixels:
    return step.pixels().transposed([0, *step.config["dims"]])


def _transpose(step: Step) -> Pixels:
    order = step.setting("axes", step.setting("perm", step.operand(1, "perm", "axes")))
    return step.pixels().transposed(order)


def _flip(step: Step) -> Pixels:
    axis = step.setting("axis", step.operand(1, "axis"))
    if axis is None:
        raise ModelError("it mirrors pictures")
    return step.pixels().reversed(axis if isinstance(axis, (list, tuple)) else [axis])


def _slice(step: Step) -> Pixels:
    items, pixels = step.operand(1, "slice_spec", "key"), step.pixels()
    items = list(items) if isinstance(items, (list, tuple)) else [items]
    if "..." in [item for item in items if isinstance(item, str)]:
        items = [... if isinstance(item, str) else item for item in items]
    if ... in items:
        at = items.index(...)
        rest = len(pixels.axes) - len(items) + 1
        items = [*items[:at], *[slice(None)] * rest, *items[at + 1 :]]
    if not all(isinstance(item, (slice, int)) for item in items):
        raise ModelError("it slices pictures by other values than numbers")
    return pixels.sliced(items)


def _take(step: Step) -> Pixels:
    pixels, axis = step.pixels(), step.setting("axis", -1)
    indices = step.operand(1, "indices")
    if axis is None or pixels.axis(axis) != "c" or np.ndim(indices) != 1:
        raise ModelError("it takes rows or columns of pictures")
    return pixels.taken([int(index) for index in indices])


def _several(step: Step) -> list[Pixels]:
    value = step.operand(0, "xs", "x", "values", "inputs", "arrays")
    values: Sequence[Any] = value if isinstance(value, list) else step.arguments
    if not values or not all(isinstance(item, Pixels) for item in values):
        raise ModelError("it joins pixels with something else")
    return list(values)


def _concatenate(step: Step) -> Pixels:
    several = _several(step)
    if several[0].axis(step.setting("axis", -1)) != "c":
        raise ModelError("it joins pictures")
    return joined(several)


def _stack(step: Step) -> Pixels:
    several = _several(step)
    if step.setting("axis", 0) not in (-1, len(several[0].axes)):
        raise ModelError("it stacks pictures")
    return stacked(several)


def _split(step: Step) -> list[Pixels]:
    pixels = step.pixels()
    count = step.setting("indices_or_sections", step.setting("num_or_size_splits"))
    axis = step.setting("axis", 0)
    if pixels.axis(axis) != "c" or count not in (len(pixels.source), [1, 2], [1, 1, 1]):
        raise ModelError("it splits pictures")
    return [pixels.taken([channel]) for channel in range(len(pixels.source))]


def _unstack(step: Step) -> list[Pixels]:
    pixels, axis = step.pixels(), step.setting("axis", 0)
    if pixels.axis(axis) != "c":
        raise ModelError("it splits pictures")
    single = [pixels.taken([channel]) for channel in range(len(pixels.source))]
    return [replace(item, axes=item.axes.replace("c", "")) for item in single]


def _cast(step: Step) -> Pixels:
    kind = step.setting("dtype", step.operand(1, "dtype"))
    kind = kind.get("config", {}).get("name") if isinstance(kind, dict) else kind
    pixels = step.pixels()
    if kind not in _FLOATS and not (pixels.is_bytes and pixels.is_unscaled):
        raise ModelError(f"it rounds numbers to {kind}")
    return pixels


def _reshape(step: Step) -> Pixels:
    pixels = step.pixels()
    shape = [pixels.size, pixels.size, 3]
    if pixels.axes != "nhwc" or list(step.config.get("target_shape") or []) != shape:
        raise ModelError("it changes the shape of pictures")
    return pixels


def _resize(step: Step) -> Pixels:
    config, pixels = step.config, step.pixels()
    size = step.setting("size", step.operand(1, "size"))
    height, width = (
        (config["height"], config["width"]) if "height" in config else (size[0], size[1])
    )
    method = step.setting("interpolation", step.setting("method", "bilinear"))
    for name in (
        "crop_to_aspect_ratio",
        "pad_to_aspect_ratio",
        "antialias",
        "preserve_aspect_ratio",
    ):
        if step.setting(name):
            raise ModelError(f"it resizes with {name}")
    if method != "bilinear" or step.setting("data_format") == "channels_first":
        raise ModelError(f"it resizes by {method}, or with channels first")
    return pixels.resized_to(int(height), int(width))


_Describe = Callable[[Step], Any]
_ONLY_IN_TRAINING = (
    "AlphaDropout", "AugMix", "CutMix", "Dropout", "GaussianDropout", "GaussianNoise", "MixUp",
    "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
    "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip",
    "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective",
    "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear",
    "RandomTranslation", "RandomZoom", "SpatialDropout2D",
)  # fmt: skip

_STEPS: dict[str, _Describe] = {
    **dict.fromkeys(_ONLY_IN_TRAINING, _only_in_training),
    **dict.fromkeys(("Activation", "ActivityRegularization", "Identity"), _unchanged),
    "Add": _add,
    "Cast": _cast,
    "Concatenate": _concatenate,
    "Divide": _divide,
    "Flip": _flip,
    "GetItem": _slice,
    "Multiply": _multiply,
    "Negative": _negate,
    "Permute": _permute,
    "Rescaling": _rescale,
    "Reshape": _reshape,
    "Resize": _resize,
    "Resizing": _resize,
    "Split": _split,
    "Stack": _stack,
    "Subtract": _subtract,
    "Take": _take,
    "Transpose": _transpose,
    "TrueDivide": _divide,
    "Unstack": _unstack,
}
_FUNCTIONS: dict[str, _Describe] = {
    **dict.fromkeys(("math.add", "__operators__.add", "nn.bias_add"), _add),
    **dict.fromkeys(("math.truediv", "math.divide", "__operators__.truediv", "realdiv"), _divide),
    **dict.fromkeys(("identity", "stop_gradient", "convert_to_tensor"), _unchanged),
    **dict.fromkeys(("image.resize", "image.resize_bilinear"), _resize),
    "__operators__.getitem": _slice,
    "cast": _cast,
    "concat": _concatenate,
    "math.multiply": _multiply,
    "math.negative": _negate,
    "math.subtract": _subtract,
    "reverse": _flip,
    "split": _split,
    "stack": _stack,
    "transpose": _transpose,
    "unstack": _unstack,
}
