"""Finds Inception-v3 in a graph by its structure, whatever the names of its nodes.

The match starts at the last concatenation and follows the inputs back to the pictures: each node
must have the inputs of the architecture in the same order, with the same windows and shapes. Nodes
outside of the network are not examined.
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
    """The graph differs from the architecture, after `matched` convolutions that did match."""

    def __init__(self, text: str, matched: int) -> None:
        super().__init__(text)
        self.matched = matched


@dataclass
class Match:
    """Inception-v3 in a graph.

    Parameters
    ----------
    tensors
        All canonical tensors, float32.
    last_pool
        The operation of `inception.LAST_POOL`.
    nodes
        The output node of each layer, by the name of the layer, and of `inception.INPUT`.
    """

    tensors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    last_pool: inception.Kind = "average_pool"
    nodes: dict[str, str] = field(default_factory=dict)


def match(graph: Graph, last: str) -> Match:
    """Match the architecture to a graph, back from one tensor.

    Parameters
    ----------
    graph
        Any graph.
    last
        The candidate for the last concatenation, ``[n, h, w, 2048]``.

    Raises
    ------
    Mismatch
        At the first layer that differs.
    """
    result = Match(nodes={inception.LAYERS[-1].name: graph.skip_back(last)})
    for layer in reversed(inception.LAYERS):
        if layer.name not in result.nodes:
            continue  # a nested concatenation, which was matched together with the outer one
        try:
            names, tensors = _match_layer(graph, layer, result)
            for name, tensor in zip(names, tensors, strict=True):
                _set_node(result, name, graph.skip_back(tensor))
        except ModelError as error:
            raise Mismatch(
                f"{layer.name} is not at node {result.nodes[layer.name]!r}: {error}",
                len(result.tensors) // (1 + len(inception.STATISTICS)),
            ) from error
    return result


def _set_node(result: Match, name: str, node: str) -> None:
    existing = result.nodes.setdefault(name, node)
    if existing != node:
        raise ModelError(f"expected all branches to read node {existing!r}, one reads {node!r}")


def _match_layer(
    graph: Graph, layer: inception.Layer, result: Match
) -> tuple[tuple[str, ...], list[str]]:
    """Match one layer; return its input layers and, in the same order, its input tensors."""
    node = result.nodes[layer.name]
    if layer.kind == "concat":
        expected, tensors = _flat_inputs(layer), concatenated(graph, node)
        if len(expected) != len(tensors):
            raise ModelError(f"expected {len(expected)} inputs, found {len(tensors)}")
        return expected, tensors
    if layer.kind != "conv":
        return layer.inputs, [_match_pool(graph, layer, result)]
    unit = read_unit(graph, node)
    _check_window(layer, unit.node)
    if unit.kernel.shape != layer.kernel_shape:
        raise ModelError(f"expected a kernel {layer.kernel_shape}, found {unit.kernel.shape}")
    if unit.statistics["gamma"].shape != (layer.channels,):
        raise ModelError(f"expected {layer.channels} channels in its batch norm")
    result.tensors[f"{layer.name}/kernel"] = unit.kernel
    result.tensors |= {f"{layer.name}/{name}": value for name, value in unit.statistics.items()}
    return layer.inputs, [graph.inputs(unit.node)[0]]


def _flat_inputs(layer: inception.Layer) -> tuple[str, ...]:
    """Return the input layers of a concatenation; a nested one is replaced by its inputs."""
    flat: list[str] = []
    for name in layer.inputs:
        inner = _BY_NAME[name]
        flat += _flat_inputs(inner) if inner.kind == "concat" else [name]
    return tuple(flat)


def concatenated(graph: Graph, name: str, depth: int = 0) -> list[str]:
    """Return the tensors that a node concatenates by channel; a nested node is replaced by its own.

    Raises
    ------
    ModelError
        If the node is no concatenation of channels.
    """
    node = graph.node(name)
    inputs = graph.inputs(node)
    if node.op not in ("Concat", "ConcatV2") or len(inputs) < 3:
        raise ModelError(f"expected a concatenation at node {name!r}, found {node.op}")
    axis_at = 0 if node.op == "Concat" else len(inputs) - 1
    axis = graph.constant(inputs.pop(axis_at))
    if axis is None or axis.size != 1 or int(axis.reshape(-1)[0]) not in (3, -1):
        raise ModelError(f"expected {name!r} to join channels, the last axis of four")
    tensors: list[str] = []
    for tensor in inputs:
        inner = graph.skip_back(tensor)
        if graph.node(inner).op in ("Concat", "ConcatV2") and depth == 0:
            tensors += concatenated(graph, inner, depth + 1)
        else:
            tensors.append(tensor)
    return tensors


def _match_pool(graph: Graph, layer: inception.Layer, result: Match) -> str:
    node = graph.node(result.nodes[layer.name])
    kind = _POOLS.get(node.op)
    if kind is None or (kind != layer.kind and layer.name != inception.LAST_POOL):
        raise ModelError(f"expected {layer.kind}, found {node.op}")
    if tuple(node.attr["ksize"].list.i) != (1, *layer.kernel, 1):
        raise ModelError(f"expected a window of {layer.kernel}")
    _check_window(layer, node)
    if layer.name == inception.LAST_POOL:
        result.last_pool = kind
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
