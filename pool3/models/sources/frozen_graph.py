"""Inception-v3 out of a frozen graph: that of 2015, slim's, or one exported from Keras.

The graph is never run. Its weights are taken from where the architecture is found in it, its
preprocessing from what stands before, and both become a graph of our own; a classifier's head, and
whatever else the file holds, is left behind unread.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.directory import RESIZE, ModelDirectory, model_from_tensors
from pool3.models.graph.match import Match, Mismatch, concatenated, match
from pool3.models.graph.reader import PASSED, Graph
from pool3.models.graph.units import NOTHING, Affine, step_back
from pool3.models.sources.describe import network_of

log = logging.getLogger(__name__)

_JOINS = ("Concat", "ConcatV2")
_HEADS = PASSED | {"AvgPool", "Mean", "Reshape", "Squeeze"}
_RESHAPED = PASSED | {"Cast", "ExpandDims", "Reshape", "Squeeze"}
_STARTS = frozenset({"DecodeJpeg", "DecodePng", "Placeholder", "PlaceholderWithDefault"})
_FARTHEST = 4.0
"""Preprocessed pixels lie about -1..1; further out, the pixels were not what was assumed."""

_SMALLEST = 75
_UINT8 = 4


@dataclass
class _Input:
    """What stands before the first convolution."""

    affine: Affine = NOTHING
    size: int | None = None
    resize: str = RESIZE
    note: str | None = None
    start: Any = None


def frozen_file_model(
    data: bytes,
    *,
    source: str,
    input_tensor: str | None = None,
    output_tensor: str | None = None,
) -> ModelDirectory:
    """Make a model of a frozen GraphDef that contains Inception-v3.

    Parameters
    ----------
    data
        The whole file.
    source
        Its name, for messages and for ``model.json``.
    input_tensor, output_tensor
        Where the pictures come in, before the graph's own preprocessing, and which tensor is the
        feature (or the last concatenation before it); found by structure where not given.

    Raises
    ------
    ModelError
        If it is no such graph: says what it looks like, or where it differs.
    """
    try:
        graph = Graph(data)
        found = _found(graph, output_tensor)
        before = _before(graph, found.places[inception.INPUT], input_tensor)
        variant = _variant(found, before)
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error
    log.info(
        "found Inception-v3 from %s to %s",
        before.start.name,
        found.places[inception.LAYERS[-1].name],
    )
    return model_from_tensors(
        found.tensors,
        source=source,
        notes=() if before.note is None else (before.note,),
        resize=before.resize,
        variant=variant,
        input_size=before.size or inception.INPUT_SIZE,
    )


def _found(graph: Graph, output_tensor: str | None) -> Match:
    if output_tensor is not None:
        return match(graph, graph.past(output_tensor, _HEADS))
    matches, closest = [], Mismatch("found no concatenation of four or more parts", 0)
    for name in [name for name, node in graph.nodes.items() if node.op in _JOINS]:
        try:
            concatenated(graph, name)
            matches.append(match(graph, name))
        except Mismatch as mismatch:
            closest = max(closest, mismatch, key=lambda error: error.matched)
        except ModelError:
            continue
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(found.places[inception.LAYERS[-1].name] for found in matches)
        raise ModelError(f"expected one Inception-v3, found several ({names}): --output-tensor")
    raise _not_found(graph, closest)


def _not_found(graph: Graph, closest: Mismatch) -> ModelError:
    convolutions = sum(node.op == "Conv2D" for node in graph.nodes.values())
    if closest.matched:
        detail = f"after {closest.matched} of its convolutions, counted from the end, {closest}"
    else:
        detail = f"found {convolutions} convolutions in other places{network_of(convolutions)}"
    return ModelError(
        f"expected Inception-v3 in the graph, {detail}; if it is in there all the same, name "
        "its feature by --output-tensor"
    )


def _before(graph: Graph, tensor: str, input_tensor: str | None) -> _Input:
    """Follow the pictures back from the first convolution to where they come in."""
    found = _Input()
    wanted = None if input_tensor is None else graph.node(input_tensor).name
    for _ in range(len(graph.nodes)):
        node = graph.node(tensor)
        found.start = node
        if node.name == wanted or (wanted is None and node.op in _STARTS):
            _note_size(found, node)
            return found
        inputs = graph.inputs(node)
        if node.op in _RESHAPED and inputs:
            tensor = inputs[0]
        elif node.op == "ResizeBilinear":
            tensor = _resized(graph, node, found)
        else:
            tensor = _stepped(graph, node, found, wanted)
    raise ModelError("expected a graph without loops, found one before the first convolution")


def _stepped(graph: Graph, node: Any, found: _Input, wanted: str | None) -> str:
    try:
        found.affine, tensor = step_back(graph, node, found.affine)
    except ModelError as error:
        where = "name where by --input-tensor" if wanted is None else f"{wanted!r} is not there"
        raise ModelError(
            f"expected pictures to come in before the first convolution, but {error}; {where}"
        ) from error
    return tensor


def _resized(graph: Graph, node: Any, found: _Input) -> str:
    images, size = graph.inputs(node)
    value = graph.constant(size)
    if value is None or value.shape != (2,) or value[0] != value[1]:
        raise ModelError(f"expected {node.name!r} to resize to one constant square, found {value}")
    found.size = int(value[0])
    if node.attr["align_corners"].b or node.attr["half_pixel_centers"].b:
        found.note = (
            f"its graph resizes by {node.name!r} with align_corners or half_pixel_centers, which "
            f"pool3 does not offer: {RESIZE} stands in for it"
        )
    else:
        found.resize = "tf1-bilinear"
    return images


def _note_size(found: _Input, node: Any) -> None:
    """Take the size of pictures from a placeholder that is not resized after."""
    sides = [dim.size for dim in node.attr["shape"].shape.dim][1:3]
    if found.size is None and len(sides) == 2 and min(sides) > 0:
        if sides[0] != sides[1]:
            raise ModelError(f"expected square pictures at {node.name!r}, found {sides}")
        found.size = sides[0]
    if found.size is not None and found.size < _SMALLEST:
        raise ModelError(f"expected pictures of {_SMALLEST} or more pixels, found {found.size}")


def _variant(found: Match, before: _Input) -> inception.Variant:
    """Turn the scale and shift of pixels into a divisor and an offset."""
    scale, shift = before.affine.scale, before.affine.shift
    if before.affine.is_identity() and not _gives_bytes(before.start):
        return inception.Variant(last_pool=found.last_pool)
    if _farthest(scale * 255, shift) > _FARTHEST:
        scale = scale / 255  # the graph is fed pixels of 0 to 1
    if _farthest(scale * 255, shift) > _FARTHEST or (scale == 0).any():
        raise ModelError(
            f"expected pixels of 0..255 or 0..1 to become about -1..1, found them multiplied by "
            f"{before.affine.scale} and shifted by {shift}; name the input by --input-tensor"
        )
    divisor, offset = _numbers(1 / scale, 4), _numbers(0.0 - shift, 6)
    return inception.Variant(last_pool=found.last_pool, divisor=divisor, offset=offset)


def _gives_bytes(node: Any) -> bool:
    """Tell whether a node gives pixels of 0..255 as they are in a file."""
    return bool(node.op.startswith("Decode") or node.attr["dtype"].type == _UINT8)


def _farthest(scaled: Any, shift: Any) -> float:
    return float(max(np.abs(shift).max(), np.abs(scaled + shift).max()))


def _numbers(values: Any, digits: int) -> tuple[float, ...]:
    """Give one number for all channels where they agree, without the noise of float32."""
    numbers = tuple(round(float(value), digits) + 0.0 for value in values)
    return numbers[:1] if len(set(numbers)) == 1 else numbers
