"""Reads the configuration of Inception-v3 in a Keras file: its input and its preprocessing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pool3.errors import ModelError
from pool3.models import inception

_MIN_SIZE = 75


@dataclass(frozen=True, kw_only=True)
class InputSetup:
    """The input of a model: the size of pictures, and how pixels are scaled."""

    input_size: int = inception.INPUT_SIZE
    variant: inception.Variant = inception.STANDARD


def read_input_setup(config: object) -> InputSetup:
    """Read a model's JSON configuration.

    A ``Rescaling`` layer defines how pixels are scaled; without one, the caller scaled them to
    -1..1, as ``preprocess_input`` of Keras does.

    Raises
    ------
    ModelError
        If its batch norms have another epsilon, or the size or the scaling of its pictures is not
        supported.
    """
    layers = [layer for layer in _json_objects(config) if isinstance(layer.get("config"), dict)]
    _check_epsilons(_configs(layers, "BatchNormalization"))
    return InputSetup(
        input_size=_input_size(_configs(layers, "InputLayer")),
        variant=_variant(_configs(layers, "Rescaling")),
    )


def _configs(layers: list[dict[str, Any]], class_name: str) -> list[dict[str, Any]]:
    return [layer["config"] for layer in layers if layer.get("class_name") == class_name]


def _check_epsilons(norms: list[dict[str, Any]]) -> None:
    """Reject another epsilon, unless the remaining batch norms are enough for the network."""
    others = [norm for norm in norms if norm.get("epsilon", 0.001) != inception.EPSILON]
    if others and len(norms) - len(others) < len(inception.CONVOLUTIONS):
        raise ModelError(
            f"expected batch norms with epsilon {inception.EPSILON}, found "
            f"{others[0]['epsilon']} in {others[0].get('name')!r}"
        )


def _input_size(inputs: list[dict[str, Any]]) -> int:
    shapes = [layer.get("batch_shape", layer.get("batch_input_shape")) for layer in inputs]
    sizes = {
        tuple(shape[1:3])
        for shape in shapes
        if isinstance(shape, list) and len(shape) == 4 and shape[3] == 3 and None not in shape[1:3]
    }
    if not sizes:
        return inception.INPUT_SIZE
    height, width = min(sizes)
    if len(sizes) > 1 or height != width or not isinstance(height, int) or height < _MIN_SIZE:
        raise ModelError(
            f"expected pictures of one square size of {_MIN_SIZE} pixels or more, found "
            f"{sorted(sizes)}"
        )
    return height


def _variant(rescalings: list[dict[str, Any]]) -> inception.Variant:
    if not rescalings:
        return inception.STANDARD
    scale = np.atleast_1d(np.asarray(rescalings[0].get("scale"), np.float64))
    offset = np.atleast_1d(np.asarray(rescalings[0].get("offset", 0), np.float64))
    if len(rescalings) > 1 or (scale == 0).any() or not {scale.size, offset.size} <= {1, 3}:
        raise ModelError(f"expected one rescaling of pixels, found {len(rescalings)}: {rescalings}")
    return inception.Variant(
        divisor=tuple((1 / scale).round(4).tolist()),
        offset=tuple(((0.0 - offset).round(6) + 0.0).tolist()),
    )


def _json_objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield all JSON objects in a value; no recursion, as a file may be nested deeply."""
    stack = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            yield current
            stack.extend(current.values())
        elif isinstance(current, list):
            stack.extend(current)
