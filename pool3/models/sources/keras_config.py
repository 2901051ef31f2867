"""What the configuration in a Keras file says of Inception-v3, beside its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pool3.errors import ModelError
from pool3.models import inception

_SMALLEST = 75


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a model takes its pictures: their size, and how pixels become numbers."""

    input_size: int = inception.INPUT_SIZE
    variant: inception.Variant = inception.USUAL


def setup_of(config: object) -> Setup:
    """Read a model's JSON configuration.

    A ``Rescaling`` layer says how pixels become numbers; without one, they were brought to -1..1
    before, as Keras' own ``preprocess_input`` does.

    Raises
    ------
    ModelError
        If its batch norms have another epsilon, or its pictures are of a size or a scaling that
        cannot be kept.
    """
    layers = [layer for layer in _objects(config) if isinstance(layer.get("config"), dict)]
    _check_epsilons([layer["config"] for layer in _of(layers, "BatchNormalization")])
    return Setup(
        input_size=_size([layer["config"] for layer in _of(layers, "InputLayer")]),
        variant=_variant([layer["config"] for layer in _of(layers, "Rescaling")]),
    )


def _of(layers: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [layer for layer in layers if layer.get("class_name") == kind]


def _check_epsilons(norms: list[dict[str, Any]]) -> None:
    """Refuse another epsilon, unless enough others are left that it may be a head's own."""
    odd = [norm for norm in norms if norm.get("epsilon", 0.001) != inception.EPSILON]
    if odd and len(norms) - len(odd) < len(inception.CONVOLUTIONS):
        raise ModelError(
            f"expected batch norms with epsilon {inception.EPSILON}, found "
            f"{odd[0]['epsilon']} in {odd[0].get('name')!r}"
        )


def _size(inputs: list[dict[str, Any]]) -> int:
    shapes = [layer.get("batch_shape", layer.get("batch_input_shape")) for layer in inputs]
    sizes = {
        tuple(shape[1:3])
        for shape in shapes
        if isinstance(shape, list) and len(shape) == 4 and shape[3] == 3 and None not in shape[1:3]
    }
    if not sizes:
        return inception.INPUT_SIZE
    height, width = min(sizes)
    if len(sizes) > 1 or height != width or not isinstance(height, int) or height < _SMALLEST:
        raise ModelError(
            f"expected pictures of one square size of {_SMALLEST} pixels or more, found "
            f"{sorted(sizes)}"
        )
    return height


def _variant(rescalings: list[dict[str, Any]]) -> inception.Variant:
    if not rescalings:
        return inception.USUAL
    scale = np.atleast_1d(np.asarray(rescalings[0].get("scale"), np.float64))
    offset = np.atleast_1d(np.asarray(rescalings[0].get("offset", 0), np.float64))
    if len(rescalings) > 1 or (scale == 0).any() or not {scale.size, offset.size} <= {1, 3}:
        raise ModelError(f"expected one rescaling of pixels, found {len(rescalings)}: {rescalings}")
    return inception.Variant(
        divisor=tuple((1 / scale).round(4).tolist()),
        offset=tuple(((0.0 - offset).round(6) + 0.0).tolist()),
    )


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Every JSON object within a value, without recursion that a deep file could exhaust."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            yield current
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
