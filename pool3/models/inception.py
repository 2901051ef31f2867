"""Inception-v3 up to its average pool, as data.

Scopes are those of TensorFlow's slim (its historical oddities included, such as the 3x3 kernel that
is called ``Conv2d_1a_1x1``), layers stand in the order in which Keras creates them. This module
holds no weights and builds no graph: `LAYERS` is what every reader and writer walks over.

Reference: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Kind = Literal["conv", "max_pool", "average_pool", "concat"]
Padding = Literal["SAME", "VALID"]

INPUT = "pictures"
INPUT_SIZE = 299
FEATURE_DIMENSION = 2048
EPSILON = 0.001
"""Added to the moving variance by every batch norm."""

STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")
"""The tensors of one batch norm, each float32 ``(out,)``."""


@dataclass(frozen=True)
class Layer:
    """One step of the network; a ``conv`` is followed by its batch norm and a ReLU.

    Parameters
    ----------
    name
        Canonical scope, such as ``Mixed_7c/Branch_3/Conv2d_0b_1x1``.
    kind
        What the step does.
    inputs
        Names of the layers (or `INPUT`) that it reads.
    kernel
        Height and width of the window; ``(0, 0)`` for a concatenation.
    channels_in, channels
        Channels that it reads and gives.
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
    """A convolution (``channels`` > 0) or a pool, before its inputs are known."""

    name: str
    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: Padding = "SAME"


_Branch = tuple["_Step | tuple[_Step, ...]", ...]
"""Steps one after another; a tuple in the last place stands side by side and is concatenated."""


def _conv(name: str, channels: int, height: int, width: int) -> _Step:
    return _Step(f"Conv2d_{name}", channels, (height, width))


def _valid(name: str, channels: int, size: int, stride: int = 1) -> _Step:
    return _Step(f"Conv2d_{name}", channels, (size, size), stride, "VALID")


def _max_pool(name: str) -> _Step:
    return _Step(f"MaxPool_{name}", 0, (3, 3), 2, "VALID")


_STEM = (
    _valid("1a_3x3", 32, 3, 2),
    _valid("2a_3x3", 32, 3),
    _conv("2b_3x3", 64, 3, 3),
    _max_pool("3a_3x3"),
    _valid("3b_1x1", 80, 1),
    _valid("4a_3x3", 192, 3),
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
        (_valid("1a_1x1", 384, 3, 2),),
        (_conv("0a_1x1", 64, 1, 1), _conv("0b_3x3", 96, 3, 3), _valid("1a_1x1", 96, 3, 2)),
        (_max_pool("1a_3x3"),),
    ),
    "Mixed_6b": _block_17(128),
    "Mixed_6c": _block_17(160),
    "Mixed_6d": _block_17(160),
    "Mixed_6e": _block_17(192),
    "Mixed_7a": (
        (_conv("0a_1x1", 192, 1, 1), _valid("1a_3x3", 320, 3, 2)),
        (
            _conv("0a_1x1", 192, 1, 1),
            _conv("0b_1x7", 192, 1, 7),
            _conv("0c_7x1", 192, 7, 1),
            _valid("1a_3x3", 192, 3, 2),
        ),
        (_max_pool("1a_3x3"),),
    ),
    "Mixed_7b": _block_8("0b_3x1"),
    "Mixed_7c": _block_8("0c_3x1"),
}


class _Walk:
    """Turns steps into layers: knows the channels of each layer so far."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.channels = {INPUT: 3}

    def step(self, scope: str, step: _Step, source: str) -> str:
        kind: Kind = "conv" if step.channels else "max_pool" if step.stride == 2 else "average_pool"
        given = self.channels[source]
        return self._add(
            Layer(
                name=scope + step.name,
                kind=kind,
                inputs=(source,),
                kernel=step.kernel,
                channels_in=given,
                channels=step.channels or given,
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


def _walk() -> tuple[Layer, ...]:
    walk = _Walk()
    source = walk.branch("", _STEM, INPUT)
    for block, branches in _BLOCKS.items():
        sources = [
            walk.branch(f"{block}/Branch_{i}/", branch, source) for i, branch in enumerate(branches)
        ]
        source = walk.concat(f"{block}/concat", sources)
    return tuple(walk.layers)


LAYERS: tuple[Layer, ...] = _walk()
"""Every layer in Keras' creation order, which is also an order of execution."""

LAST_POOL = "Mixed_7c/Branch_3/AvgPool_0a_3x3"
"""The one pool in which trainings differ: the network of 2015 takes the maximum there."""

CONVOLUTIONS: tuple[Layer, ...] = tuple(layer for layer in LAYERS if layer.kind == "conv")
"""The 94 convolutions in Keras' creation order: ``conv2d``, ``conv2d_1``, ..."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs between trainings of the network, its weights aside.

    Parameters
    ----------
    last_pool
        What the pool `LAST_POOL` does.
    divisor, offset
        The first convolution sees ``pixel / divisor - offset``, for pixels of 0 to 255; one number
        each, or one for each of red, green and blue.
    """

    last_pool: Kind = "average_pool"
    divisor: tuple[float, ...] = (127.5,)
    offset: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        known = self.last_pool in ("average_pool", "max_pool")
        numbers = (self.divisor, self.offset)
        if not known or any(len(values) not in (1, 3) for values in numbers) or 0 in self.divisor:
            raise ValueError(f"not a variant of Inception-v3: {self}")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer, as `LAYERS`."""
        return tuple(
            replace(layer, kind=self.last_pool) if layer.name == LAST_POOL else layer
            for layer in LAYERS
        )

    def as_json(self) -> dict[str, Any]:
        """Give the facts for ``model.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Variant:
        """Read what `as_json` gave; raises TypeError or ValueError at anything else."""
        numbers = {name: tuple(map(float, facts[name])) for name in ("divisor", "offset")}
        return cls(**(facts | numbers))


USUAL = Variant()
"""The network as slim and Keras have it."""


def convolutions_by_depth() -> tuple[Layer, ...]:
    """Give the convolutions in the order in which a Keras model lists (and saves) its layers.

    Keras sorts layers by their distance from the output, longest first, and keeps the order of
    creation among equals. A convolution counts three: itself, its batch norm, its activation.
    """
    distance: dict[str, int] = {}
    for layer in reversed(LAYERS):
        own = distance.setdefault(layer.name, 0) + (2 if layer.kind == "conv" else 0)
        for source in layer.inputs:
            distance[source] = max(distance.get(source, 0), own + 1)
    return tuple(sorted(CONVOLUTIONS, key=lambda layer: -distance[layer.name]))


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Give the shape of each canonical tensor: ``<scope>/kernel`` and the `STATISTICS`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in CONVOLUTIONS:
        shapes[f"{layer.name}/kernel"] = layer.kernel_shape
        shapes |= {f"{layer.name}/{name}": (layer.channels,) for name in STATISTICS}
    return shapes
