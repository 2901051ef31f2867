"""Inception-v3 up to its average pool, as data.

Scopes are named as in TensorFlow's slim, including its historical mistakes such as the 3x3 kernel
called ``Conv2d_1a_1x1``. Layers are in the order in which Keras creates them. This module contains
no weights and builds no graph: readers and writers iterate over `LAYERS`.

Reference: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Kind = Literal["conv", "max_pool", "average_pool", "concat"]
Padding = Literal["SAME", "VALID"]

INPUT = "pictures"
INPUT_SIZE = 299
MAX_INPUT_SIZE = 4096
FEATURE_DIMENSION = 2048
EPSILON = 0.001
"""Added to the moving variance by every batch norm."""

STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")
"""The tensors of a batch norm, each float32 ``(out,)``."""


@dataclass(frozen=True)
class Layer:
    """One layer of the network; a ``conv`` includes its batch norm and ReLU.

    Parameters
    ----------
    name
        Canonical scope, such as ``Mixed_7c/Branch_3/Conv2d_0b_1x1``.
    kind
        The operation.
    inputs
        Names of its input layers (or `INPUT`).
    kernel
        Height and width of the window; ``(0, 0)`` for a concatenation.
    channels_in, channels
        Channels of its input and of its output.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    kernel: tuple[int, int]
    channels_in: int
    channels: int
    stride: int = 1
    padding: Padding = "SAME"

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Shape of a convolution's kernel, ``(height, width, in, out)``."""
        return (*self.kernel, self.channels_in, self.channels)


@dataclass(frozen=True)
class _Step:
    """A convolution (``channels`` > 0) or a pool, before its inputs are determined."""

    name: str
    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: Padding = "SAME"


_Branch = tuple["_Step | tuple[_Step, ...]", ...]
"""Steps in sequence; a tuple at the end holds parallel steps, whose outputs are concatenated."""


def _conv(name: str, channels: int, height: int, width: int) -> _Step:
    return _Step(f"Conv2d_{name}", channels, (height, width))


def _valid_conv(name: str, channels: int, size: int, stride: int = 1) -> _Step:
    return _Step(f"Conv2d_{name}", channels, (size, size), stride, "VALID")


def _max_pool(name: str) -> _Step:
    return _Step(f"MaxPool_{name}", 0, (3, 3), 2, "VALID")


_STEM = (
    _valid_conv("1a_3x3", 32, 3, 2),
    _valid_conv("2a_3x3", 32, 3),
    _conv("2b_3x3", 64, 3, 3),
    _max_pool("3a_3x3"),
    _valid_conv("3b_1x1", 80, 1),
    _valid_conv("4a_3x3", 192, 3),
    _max_pool("5a_3x3"),
)


def _pooled(channels: int) -> _Branch:
    return (_Step("AvgPool_0a_3x3", 0, (3, 3)), _conv("0b_1x1", channels, 1, 1))


def _block_35(first: str, second: str, pooled: int) -> tuple[_Branch, ...]:
    return (
        (_conv("0a_1x1", 64, 1, 1),),
        (_conv(first, 48, 1, 1), _Step(second, 64, (5, 5))),
        (_conv("0a_1x1", 64, 1, 1), _conv("0b_3x3", 96, 3, 3), _conv("0c_3x3", 96, 3, 3)),
        _pooled(pooled),
    )


def _block_17(inner: int) -> tuple[_Branch, ...]:
    return (
        (_conv("0a_1x1", 192, 1, 1),),
        (_conv("0a_1x1", inner, 1, 1), _conv("0b_1x7", inner, 1, 7), _conv("0c_7x1", 192, 7, 1)),
        (
            _conv("0a_1x1", inner, 1, 1),
            _conv("0b_7x1", inner, 7, 1),
            _conv("0c_1x7", inner, 1, 7),
            _conv("0d_7x1", inner, 7, 1),
            _conv("0e_1x7", 192, 1, 7),
        ),
        _pooled(192),
    )


def _block_8(tall: str) -> tuple[_Branch, ...]:
    return (
        (_conv("0a_1x1", 320, 1, 1),),
        (_conv("0a_1x1", 384, 1, 1), (_conv("0b_1x3", 384, 1, 3), _conv(tall, 384, 3, 1))),
        (
            _conv("0a_1x1", 448, 1, 1),
            _conv("0b_3x3", 384, 3, 3),
            (_conv("0c_1x3", 384, 1, 3), _conv("0d_3x1", 384, 3, 1)),
        ),
        _pooled(192),
    )


_BLOCKS: dict[str, tuple[_Branch, ...]] = {
    "Mixed_5b": _block_35("0a_1x1", "Conv2d_0b_5x5", 32),
    "Mixed_5c": _block_35("0b_1x1", "Conv_1_0c_5x5", 64),
    "Mixed_5d": _block_35("0a_1x1", "Conv2d_0b_5x5", 64),
    "Mixed_6a": (
        (_valid_conv("1a_1x1", 384, 3, 2),),
        (_conv("0a_1x1", 64, 1, 1), _conv("0b_3x3", 96, 3, 3), _valid_conv("1a_1x1", 96, 3, 2)),
        (_max_pool("1a_3x3"),),
    ),
    "Mixed_6b": _block_17(128),
    "Mixed_6c": _block_17(160),
    "Mixed_6d": _block_17(160),
    "Mixed_6e": _block_17(192),
    "Mixed_7a": (
        (_conv("0a_1x1", 192, 1, 1), _valid_conv("1a_3x3", 320, 3, 2)),
        (
            _conv("0a_1x1", 192, 1, 1),
            _conv("0b_1x7", 192, 1, 7),
            _conv("0c_7x1", 192, 7, 1),
            _valid_conv("1a_3x3", 192, 3, 2),
        ),
        (_max_pool("1a_3x3"),),
    ),
    "Mixed_7b": _block_8("0b_3x1"),
    "Mixed_7c": _block_8("0c_3x1"),
}


class _LayerBuilder:
    """Turns steps into layers; `channels` has the output channels of each layer so far."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.channels = {INPUT: 3}

    def step(self, scope: str, step: _Step, source: str) -> str:
        kind: Kind = "conv" if step.channels else "max_pool" if step.stride == 2 else "average_pool"
        channels_in = self.channels[source]
        return self._add(
            Layer(
                name=scope + step.name,
                kind=kind,
                inputs=(source,),
                kernel=step.kernel,
                channels_in=channels_in,
                channels=step.channels or channels_in,
                stride=step.stride,
                padding=step.padding,
            )
        )

    def concat(self, name: str, sources: list[str]) -> str:
        total = sum(self.channels[source] for source in sources)
        return self._add(Layer(name, "concat", tuple(sources), (0, 0), total, total))

    def branch(self, scope: str, branch: _Branch, source: str) -> str:
        for step in branch:
            if isinstance(step, _Step):
                source = self.step(scope, step, source)
            else:
                sides = [self.step(scope, side, source) for side in step]
                source = self.concat(f"{scope}concat", sides)
        return source

    def _add(self, layer: Layer) -> str:
        self.layers.append(layer)
        self.channels[layer.name] = layer.channels
        return layer.name


def _build_layers() -> tuple[Layer, ...]:
    builder = _LayerBuilder()
    source = builder.branch("", _STEM, INPUT)
    for block, branches in _BLOCKS.items():
        sources = [
            builder.branch(f"{block}/Branch_{i}/", branch, source)
            for i, branch in enumerate(branches)
        ]
        source = builder.concat(f"{block}/concat", sources)
    return tuple(builder.layers)


LAYERS: tuple[Layer, ...] = _build_layers()
"""All layers in Keras' creation order, which is also an order of execution."""

LAST_POOL = "Mixed_7c/Branch_3/AvgPool_0a_3x3"
"""The only pool that differs between trainings: a max pool in the network of 2015."""

CONVOLUTIONS: tuple[Layer, ...] = tuple(layer for layer in LAYERS if layer.kind == "conv")
"""The 94 convolutions in Keras' creation order: ``conv2d``, ``conv2d_1``, ..."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs between trainings of the network besides the weights.

    Parameters
    ----------
    last_pool
        The operation of `LAST_POOL`.
    divisor, offset
        The input of the first convolution is ``pixel / divisor - offset``, for pixels of 0 to 255.
        Each has one value, or one each for red, green and blue.
    network_size
        Height and width that the graph resizes its input to, bilinearly with half-pixel centres and
        without antialiasing; None if it does not resize.
    """

    last_pool: Kind = "average_pool"
    divisor: tuple[float, ...] = (127.5,)
    offset: tuple[float, ...] = (1.0,)
    network_size: int | None = None

    def __post_init__(self) -> None:
        is_pool = self.last_pool in ("average_pool", "max_pool")
        lengths = {len(self.divisor), len(self.offset)}
        finite = all(math.isfinite(number) for number in (*self.divisor, *self.offset))
        if (
            not is_pool
            or not lengths <= {1, 3}
            or 0 in self.divisor
            or not finite
            or not self._has_valid_size()
        ):
            raise ValueError(f"not a variant of Inception-v3: {self}")

    def _has_valid_size(self) -> bool:
        size = self.network_size
        return size is None or (type(size) is int and 1 <= size <= MAX_INPUT_SIZE)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers, as `LAYERS`."""
        return tuple(
            replace(layer, kind=self.last_pool) if layer.name == LAST_POOL else layer
            for layer in LAYERS
        )

    def id_text(self) -> str:
        """Return what the id of a model includes of its variant."""
        resized = "" if self.network_size is None else f" {self.network_size}"
        return f"{self.last_pool} {self.divisor} {self.offset}{resized}\n"

    def as_json(self) -> dict[str, Any]:
        """Return the fields for ``model.json``; an earlier release reads them if not resized."""
        fields = asdict(self)
        if self.network_size is None:
            del fields["network_size"]
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Variant:
        """Read the result of `as_json`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a field is missing, unknown, or has an invalid value.
        """
        numbers = {name: tuple(map(float, fields[name])) for name in ("divisor", "offset")}
        return cls(**(fields | numbers))


STANDARD = Variant()
"""The network of slim and of Keras."""


def convolutions_by_depth() -> tuple[Layer, ...]:
    """Return the convolutions in the order in which a Keras model lists (and saves) its layers.

    Keras sorts layers by their distance to the output, longest first, then by creation. A
    convolution counts as three layers: itself, its batch norm and its activation.
    """
    distance: dict[str, int] = {}
    for layer in reversed(LAYERS):
        own = distance.setdefault(layer.name, 0) + (2 if layer.kind == "conv" else 0)
        for source in layer.inputs:
            distance[source] = max(distance.get(source, 0), own + 1)
    return tuple(sorted(CONVOLUTIONS, key=lambda layer: -distance[layer.name]))


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each canonical tensor: ``<scope>/kernel`` and the `STATISTICS`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in CONVOLUTIONS:
        shapes[f"{layer.name}/kernel"] = layer.kernel_shape
        shapes |= {f"{layer.name}/{name}": (layer.channels,) for name in STATISTICS}
    return shapes
