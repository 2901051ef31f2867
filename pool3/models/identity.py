"""Checks that a model directory is what its ``model.json`` says: its id, its graph and its sizes.

An id names features, so it must not be taken from a file that anybody may edit: it is computed from
the weights, and the graph is compared with the one that these weights make. The result depends on
the content of the files only. It is remembered by their digests, in this process and in the local
cache, so a model is hashed once on a machine and not at each load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.images.profiles import IGNORED
from pool3.models import inception
from pool3.models.graph.freeze import FEATURES, frozen_graph
from pool3.models.graph.graphdef import GraphDef
from pool3.models.graph.reader import Graph

Tensors = Mapping[str, npt.NDArray[np.float32]]

_SAME_CHANNELS = frozenset(
    {
        "AvgPool",
        "BiasAdd",
        "Cast",
        "Identity",
        "MaxPool",
        "Mean",
        "RealDiv",
        "Relu",
        "ResizeBilinear",
        "Sub",
    }
)
_REMEDY = "import the model again from its weights"


def model_id_of(
    tensors: Tensors,
    *,
    feature_node: str,
    resize: str,
    input_size: int,
    variant: inception.Variant = inception.STANDARD,
    colour: str = IGNORED,
) -> str:
    """Return the id of a model, a hash of its content: 64 hexadecimal digits.

    It does not depend on the engine, the precision, the file format or the source of the weights.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape}\n".encode())
        digest.update(tensors[name].astype("<f4", copy=False).tobytes())
    digest.update(f"{feature_node} {resize} {input_size}\n".encode())
    if variant != inception.STANDARD:
        digest.update(variant.id_text().encode())
    if colour != IGNORED:  # ids from before profiles were read stay
        digest.update(f"colour {colour}\n".encode())
    return digest.hexdigest()


def require_same_weights(
    graph: bytes,
    tensors: Tensors,
    *,
    where: str,
    variant: inception.Variant,
    input_size: int,
) -> None:
    """Check that the graph of a directory is the one that its weights make.

    Only the graph of Inception-v3 can be made from its weights; others are not compared.

    Raises
    ------
    ModelError
        If the graph differs.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if shapes != inception.tensor_shapes():
        return
    expected = frozen_graph(tensors, variant=variant, input_size=input_size)
    if expected == graph:
        return
    if list(GraphDef.FromString(expected).node) != list(GraphDef.FromString(graph).node):
        raise ModelError(
            f"expected the graph in {where} to be made from the weights beside it, found "
            f"another; {_REMEDY}"
        )


def require_sizes(graph: bytes, *, where: str, input_size: int, feature_dimension: int) -> None:
    """Check the input size and the feature dimension of a directory against its graph.

    Raises
    ------
    ModelError
        If the graph has others; the message names both.
    """
    parsed = Graph(graph)
    shape = parsed.node(inception.INPUT).attr["shape"].shape
    sides = [dim.size for dim in shape.dim][1:3]
    if sides != [input_size, input_size]:
        raise ModelError(
            f"expected input_size {input_size} of {where} to be the input of its graph, found "
            f"{sides}; {_REMEDY}"
        )
    width = _channels(parsed, FEATURES)
    if width != feature_dimension:
        raise ModelError(
            f"expected feature_dimension {feature_dimension} of {where} to be the output of its "
            f"graph, found {width}; {_REMEDY}"
        )


def _channels(graph: Graph, name: str) -> int | None:
    """Return the length of the last axis of a node's output; None if it is not determined."""
    lengths: dict[str, int | None] = {}
    stack = [name]
    while stack:
        node = graph.node(stack[-1])
        sources = _shaping_inputs(graph, node)
        missing = [source for source in sources if source not in lengths]
        if len(stack) > len(graph.nodes):
            raise ModelError(f"expected a graph without loops, found one at {node.name!r}")
        if missing:
            stack.append(missing[0])
            continue
        lengths[stack.pop()] = _own_channels(graph, node, [lengths[source] for source in sources])
    return lengths[name]


def _shaping_inputs(graph: Graph, node: Any) -> list[str]:
    """Return the inputs whose channels determine those of a node."""
    inputs = graph.inputs(node)
    if node.op == "ConcatV2":
        return inputs[:-1]
    return inputs if node.op in _SAME_CHANNELS else []


def _own_channels(graph: Graph, node: Any, sources: list[int | None]) -> int | None:
    lengths = [length for length in sources if length is not None]
    if node.op == "ConcatV2":
        return sum(lengths) if len(lengths) == len(sources) else None
    if node.op == "Conv2D":
        kernel = graph.node(graph.skip_back(graph.inputs(node)[1]))
        return _last_size(kernel.attr["value"].tensor.tensor_shape)
    if node.op == "Placeholder":
        return _last_size(node.attr["shape"].shape)
    return lengths[0] if lengths else None


def _last_size(shape: Any) -> int | None:
    return int(shape.dim[-1].size) if shape.dim else None


def is_size(value: object, largest: int) -> bool:
    """Return whether a value of ``model.json`` is a whole number of 1 to `largest`."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def is_digest(value: object) -> bool:
    """Return whether a value of ``model.json`` is a SHA-256 in lower-case hexadecimal."""
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")
