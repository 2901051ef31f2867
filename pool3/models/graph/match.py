"""Finds Inception-v3 in a graph by its structure, whatever its nodes are called.

The walk goes back from the last concatenation: what a node reads must be what the architecture
reads there, in the same order, with the same windows and shapes, down to the pictures. So what is
found is the network and nothing else, and nothing beside it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.graph.reader import Graph
from pool3.models.graph.units import read_unit

_BY_NAME = {layer.name: layer for layer in inception.LAYERS}
_POOLS: dict[str, inception.Kind] = {"AvgPool": "average_pool", "MaxPool": "max_pool"}


class Mismatch(ModelError):
    """The graph is not the architecture at some place; `matched` convolutions were."""

    def __init__(self, text: str, matched: int) -> None:
        super().__init__(text)
        self.matched = matched


@dataclass
class Match:
    """Inception-v3 as found in a graph.

    Parameters
    ----------
    tensors
        Every canonical tensor, float32.
    last_pool
        What the pool `inception.LAST_POOL` does.
    places
        Layers, and `inception.INPUT`, to the nodes that give them.
    """

    tensors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    last_pool: inception.Kind = "average_pool"
    places: dict[str, str] = field(default_factory=dict)


def match(graph: Graph, last: str) -> Match:
    """Match the architecture to the graph back from one tensor.

    Parameters
    ----------
    graph
        Any graph.
    last
        The tensor that should be the last concatenation, ``[n, h, w, 2048]``.

    Raises
    ------
    Mismatch
        At the first layer that is something else.
    """
    found = Match(places={inception.LAYERS[-1].name: graph.past(last)})
    for layer in reversed(inception.LAYERS):
        if layer.name not in found.places:
            continue  # a concatenation within another, which was taken together with that one
        try:
            names, sources = _sources(graph, layer, found)
            for name, source in zip(names, sources, strict=True):
                _place(found, name, graph.past(source))
        except ModelError as error:
            raise Mismatch(
                f"{layer.name} is not at node {found.places[layer.name]!r}: {error}",
                len(found.tensors) // (1 + len(inception.STATISTICS)),
            ) from error
    return found


def _place(found: Match, name: str, node: str) -> None:
    known = found.places.setdefault(name, node)
    if known != node:
        raise ModelError(f"expected all branches to read node {known!r}, one reads {node!r}")


def _sources(
    graph: Graph, layer: inception.Layer, found: Match
) -> tuple[tuple[str, ...], list[str]]:
    """Check one layer; gives the names of the layers before it, and where they are."""
    name = found.places[layer.name]
    if layer.kind == "concat":
        expected, parts = _parts(layer), concatenated(graph, name)
        if len(expected) != len(parts):
            raise ModelError(f"expected {len(expected)} parts, found {len(parts)}")
        return expected, parts
    if layer.kind != "conv":
        return layer.inputs, [_pool(graph, layer, found)]
    unit = read_unit(graph, name)
    _check_window(layer, unit.node)
    if unit.kernel.shape != layer.kernel_shape:
        raise ModelError(f"expected a kernel {layer.kernel_shape}, found {unit.kernel.shape}")
    if unit.statistics["gamma"].shape != (layer.channels,):
        raise ModelError(f"expected {layer.channels} channels in its batch norm")
    found.tensors[f"{layer.name}/kernel"] = unit.kernel
    found.tensors |= {f"{layer.name}/{part}": unit.statistics[part] for part in unit.statistics}
    return layer.inputs, [graph.inputs(unit.node)[0]]


def _parts(layer: inception.Layer) -> tuple[str, ...]:
    """Layers that a concatenation joins, those of concatenations within it in their place."""
    return tuple(
        part
        for name in layer.inputs
        for part in (_parts(_BY_NAME[name]) if _BY_NAME[name].kind == "concat" else (name,))
    )


def concatenated(graph: Graph, name: str, depth: int = 0) -> list[str]:
    """Give the tensors that a node joins by channel, those of nodes within it in their place.

    Raises
    ------
    ModelError
        If it is no such node.
    """
    node = graph.node(name)
    inputs = graph.inputs(node)
    if node.op not in ("Concat", "ConcatV2") or len(inputs) < 3:
        raise ModelError(f"expected a concatenation at node {name!r}, found {node.op}")
    axis_at = 0 if node.op == "Concat" else len(inputs) - 1
    axis = graph.constant(inputs.pop(axis_at))
    if axis is None or axis.size != 1 or int(axis.reshape(-1)[0]) not in (3, -1):
        raise ModelError(f"expected {name!r} to join channels, the last axis of four")
    parts: list[str] = []
    for tensor in inputs:
        inner = graph.past(tensor)
        if graph.node(inner).op in ("Concat", "ConcatV2") and depth == 0:
            parts += concatenated(graph, inner, depth + 1)
        else:
            parts.append(tensor)
    return parts


def _pool(graph: Graph, layer: inception.Layer, found: Match) -> str:
    node = graph.node(found.places[layer.name])
    kind = _POOLS.get(node.op)
    if kind is None or (kind != layer.kind and layer.name != inception.LAST_POOL):
        raise ModelError(f"expected {layer.kind}, found {node.op}")
    if tuple(node.attr["ksize"].list.i) != (1, *layer.kernel, 1):
        raise ModelError(f"expected a window of {layer.kernel}")
    _check_window(layer, node)
    if layer.name == inception.LAST_POOL:
        found.last_pool = kind
    return graph.inputs(node)[0]


def _check_window(layer: inception.Layer, node: Any) -> None:
    attributes = node.attr
    if "data_format" in attributes and attributes["data_format"].s != b"NHWC":
        raise ModelError(f"expected channels last (NHWC) at {node.name!r}; export it for CPUs")
    strides = tuple(attributes["strides"].list.i)
    if strides != (1, layer.stride, layer.stride, 1):
        raise ModelError(f"expected a stride of {layer.stride} at {node.name!r}, found {strides}")
    padding = attributes["padding"].s.decode(errors="replace")
    if padding != layer.padding and layer.kernel != (1, 1):
        raise ModelError(f"expected padding {layer.padding} at {node.name!r}, found {padding}")
    if set(attributes["dilations"].list.i) - {1}:
        raise ModelError(f"expected no dilation at {node.name!r}")
