"""Reads Inception-v3 from a frozen graph: that of 2015, slim's, or one exported from Keras.

The graph is not run. The weights are read where the architecture matches, the preprocessing from
the nodes before it, and a new graph is made from both. Other nodes, such as the head of a
classifier, are ignored.
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
from pool3.models.graph.reader import PASS_THROUGH, Graph
from pool3.models.graph.units import IDENTITY, Affine, step_back
from pool3.models.sources.describe import network_hint

log = logging.getLogger(__name__)

_JOINS = ("Concat", "ConcatV2")
_HEADS = PASS_THROUGH | {"AvgPool", "Mean", "Reshape", "Squeeze"}
_RESHAPED = PASS_THROUGH | {"Cast", "ExpandDims", "Reshape", "Squeeze"}
_STARTS = frozenset({"DecodeJpeg", "DecodePng", "Placeholder", "PlaceholderWithDefault"})
_MAX_PIXEL = 4.0
"""Preprocessed pixels are about -1..1; larger values mean that the input range differs."""

_MIN_SIZE = 75
_UINT8 = 4


@dataclass
class _Input:
    """The preprocessing before the first convolution."""

    affine: Affine = IDENTITY
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
    """Make a model from a frozen GraphDef that contains Inception-v3.

    Parameters
    ----------
    data
        The whole file.
    source
        Its name, for messages and for ``model.json``.
    input_tensor, output_tensor
        The tensor of the pictures, before the preprocessing of the graph, and the tensor of the
        features (or the last concatenation before them); by default recognised by structure.

    Raises
    ------
    ModelError
        If the graph does not match; the message describes the graph, or names the first
        difference.
    """
    try:
        graph = Graph(data)
        network = _match_network(graph, output_tensor)
        preprocessing = _read_input(graph, network.nodes[inception.INPUT], input_tensor)
        variant = _variant(network, preprocessing)
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error
    log.info(
        "found Inception-v3 from %s to %s",
        preprocessing.start.name,
        network.nodes[inception.LAYERS[-1].name],
    )
    return model_from_tensors(
        network.tensors,
        source=source,
        notes=() if preprocessing.note is None else (preprocessing.note,),
        resize=preprocessing.resize,
        variant=variant,
        input_size=preprocessing.size or inception.INPUT_SIZE,
    )


def _match_network(graph: Graph, output_tensor: str | None) -> Match:
    if output_tensor is not None:
        return match(graph, graph.skip_back(output_tensor, _HEADS))
    matches, closest = [], Mismatch("found no concatenation of four or more tensors", 0)
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
        names = ", ".join(network.nodes[inception.LAYERS[-1].name] for network in matches)
        raise ModelError(f"expected one Inception-v3, found several ({names}): --output-tensor")
    raise _no_match(graph, closest)


def _no_match(graph: Graph, closest: Mismatch) -> ModelError:
    convolutions = sum(node.op == "Conv2D" for node in graph.nodes.values())
    if closest.matched:
        detail = f"after {closest.matched} of its convolutions, counted from the end, {closest}"
    else:
        detail = f"found {convolutions} convolutions in other places{network_hint(convolutions)}"
    return ModelError(
        f"expected Inception-v3 in the graph, {detail}; if it contains it anyway, name "
        "the tensor of its features by --output-tensor"
    )


def _read_input(graph: Graph, tensor: str, input_tensor: str | None) -> _Input:
    """Read the preprocessing, from the first convolution back to the input of the graph."""
    result = _Input()
    start = None if input_tensor is None else graph.node(input_tensor).name
    for _ in range(len(graph.nodes)):
        node = graph.node(tensor)
        result.start = node
        if node.name == start or (start is None and node.op in _STARTS):
            _set_size(result, node)
            return result
        inputs = graph.inputs(node)
        if node.op in _RESHAPED and inputs:
            tensor = inputs[0]
        elif node.op == "ResizeBilinear":
            tensor = _read_resize(graph, node, result)
        else:
            tensor = _read_scaling(graph, node, result, start)
    raise ModelError("expected a graph without loops, found one before the first convolution")


def _read_scaling(graph: Graph, node: Any, result: _Input, start: str | None) -> str:
    try:
        result.affine, tensor = step_back(graph, node, result.affine)
    except ModelError as error:
        remedy = "name it by --input-tensor" if start is None else f"{start!r} is not there"
        raise ModelError(
            f"expected the input of pictures before the first convolution, but {error}; {remedy}"
        ) from error
    return tensor


def _read_resize(graph: Graph, node: Any, result: _Input) -> str:
    images, size = graph.inputs(node)
    value = graph.constant(size)
    if value is None or value.shape != (2,) or value[0] != value[1]:
        raise ModelError(f"expected {node.name!r} to resize to one constant square, found {value}")
    result.size = int(value[0])
    if node.attr["align_corners"].b or node.attr["half_pixel_centers"].b:
        result.note = (
            f"its graph resizes by {node.name!r} with align_corners or half_pixel_centers, which "
            f"pool3 does not offer: {RESIZE} is used instead"
        )
    else:
        result.resize = "tf1-bilinear"
    return images


def _set_size(result: _Input, node: Any) -> None:
    """Set the size of the pictures from the placeholder, if the graph does not resize them."""
    sides = [dim.size for dim in node.attr["shape"].shape.dim][1:3]
    if result.size is None and len(sides) == 2 and min(sides) > 0:
        if sides[0] != sides[1]:
            raise ModelError(f"expected square pictures at {node.name!r}, found {sides}")
        result.size = sides[0]
    if result.size is not None and result.size < _MIN_SIZE:
        raise ModelError(f"expected pictures of {_MIN_SIZE} or more pixels, found {result.size}")


def _variant(network: Match, preprocessing: _Input) -> inception.Variant:
    """Convert the scale and shift of pixels to a divisor and an offset."""
    affine, last_pool = preprocessing.affine, network.last_pool
    scale, shift = affine.scale, affine.shift
    if affine.is_identity() and not _returns_bytes(preprocessing.start):
        return inception.Variant(last_pool=last_pool)
    if _largest(scale * 255, shift) > _MAX_PIXEL:
        scale = scale / 255  # the input of the graph is pixels of 0 to 1
    if _largest(scale * 255, shift) > _MAX_PIXEL or (scale == 0).any():
        raise ModelError(
            f"expected pixels of 0..255 or 0..1 to become about -1..1, found them multiplied by "
            f"{affine.scale} and shifted by {shift}; name the input by --input-tensor"
        )
    divisor, offset = _per_channel(1 / scale, 4), _per_channel(0.0 - shift, 6)
    return inception.Variant(last_pool=last_pool, divisor=divisor, offset=offset)


def _returns_bytes(node: Any) -> bool:
    """Return whether a node returns pixels of 0..255."""
    return bool(node.op.startswith("Decode") or node.attr["dtype"].type == _UINT8)


def _largest(scaled: Any, shift: Any) -> float:
    return float(max(np.abs(shift).max(), np.abs(scaled + shift).max()))


def _per_channel(values: Any, digits: int) -> tuple[float, ...]:
    """Return rounded values, a single one if all channels agree; removes the noise of float32."""
    rounded = tuple(round(float(value), digits) + 0.0 for value in values)
    return rounded[:1] if len(set(rounded)) == 1 else rounded
