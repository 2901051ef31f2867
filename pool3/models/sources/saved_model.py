"""Reads from a SavedModel what its signature does with pictures before the network.

The graph of the signature is followed through the functions that it calls; none is run, and no
other part of the SavedModel is read. The weights are those of its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import message

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.graph.graphdef import GraphDef
from pool3.models.graph.preprocessing import InputReader
from pool3.models.graph.reader import Graph
from pool3.models.pixels import Pixels
from pool3.models.tensorflow import import_tensorflow

_SIGNATURES = ("serving_default", "serve")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_MAX_DEPTH = 30
_MAX_NODES = 500_000


def saved_model_pixels(data: bytes) -> Pixels:
    """Return the input of the first convolution of a SavedModel.

    Parameters
    ----------
    data
        Its ``saved_model.pb``.

    Raises
    ------
    ModelError
        If it is damaged or has no usable signature, or a node before the network is not understood;
        the message names it.
    """
    import_tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415

    try:
        meta_graphs = saved_model_pb2.SavedModel.FromString(data).meta_graphs
    except message.DecodeError as error:
        raise ModelError(
            f"its saved_model.pb is damaged or cut short ({error}); copy the model again"
        ) from error
    if len(meta_graphs) != 1:
        raise ModelError(f"expected a SavedModel of one graph, found {len(meta_graphs)}")
    signatures = meta_graphs[0].signature_def
    names = [name for name in _SIGNATURES if name in signatures]
    if not names:
        raise ModelError(
            f"expected a signature {' or '.join(_SIGNATURES)} of the SavedModel, found "
            f"{', '.join(sorted(signatures)[:5]) or 'none'}; export the model with one"
        )
    signature = signatures[names[0]]
    outputs = [info.name for info in signature.outputs.values()]
    inliner = _Inliner(meta_graphs[0].graph_def)
    graph = inliner.inlined()
    return _first_input(graph, [inliner.resolved(name) for name in outputs])


def _first_input(graph: Graph, outputs: list[str]) -> Pixels:
    """Return the input of the only convolution that is like the first and behind no other."""
    candidates = [
        node for node in _ancestors(graph, outputs) if node.op == "Conv2D" and _is_first(node)
    ]
    inputs = [graph.inputs(node)[0] for node in candidates]
    firsts = [
        tensor for tensor in inputs if all(n.op != "Conv2D" for n in _ancestors(graph, [tensor]))
    ]
    if not firsts:
        raise ModelError(
            "expected the first convolution of Inception-v3 behind the input of the signature, "
            "found none"
        )
    pixels = [InputReader(graph).read(tensor) for tensor in firsts]
    if any(value != pixels[0] for value in pixels):
        raise ModelError("expected one preparation of pictures, found several convolutions on them")
    return pixels[0]


def _is_first(node: Any) -> bool:
    first = inception.CONVOLUTIONS[0]
    return (
        tuple(node.attr["strides"].list.i) == (1, first.stride, first.stride, 1)
        and node.attr["padding"].s.decode(errors="replace") == first.padding
        and node.attr["data_format"].s in (b"", b"NHWC")
    )


def _ancestors(graph: Graph, tensors: list[str]) -> Iterator[Any]:
    """Yield the nodes that tensors depend on."""
    stack, seen = [tensor.partition(":")[0] for tensor in tensors], set()
    while stack:
        name = stack.pop()
        if name in seen or name not in graph.nodes:
            continue
        seen.add(name)
        node = graph.nodes[name]
        yield node
        stack.extend(item.partition(":")[0] for item in graph.inputs(node))


class _Inliner:
    """Replaces the calls in a graph by the nodes of the functions that they call."""

    def __init__(self, definition: Any) -> None:
        self._functions = {item.signature.name: item for item in definition.library.function}
        self._definition = definition
        self._nodes: list[Any] = []
        self._aliases: dict[str, str] = {}

    def inlined(self) -> Graph:
        """Return the graph without calls."""
        for node in self._definition.node:
            self._add(node, node.name, [item for item in node.input if item[0] != "^"], 0)
        result = GraphDef()
        for node in self._nodes:
            inputs = [self.resolved(item) for item in node.input]
            added = result.node.add()
            added.ParseFromString(node.SerializeToString())
            del added.input[:]
            added.input.extend(inputs)
        return Graph(result.SerializeToString())

    def resolved(self, tensor: str) -> str:
        """Return the tensor that a tensor of a call stands for."""
        for _ in range(_MAX_DEPTH):
            name, _, output = tensor.partition(":")
            alias = self._aliases.get(f"{name}:{output or 0}")
            if alias is None:
                return tensor
            tensor = alias
        raise ModelError("expected functions without loops, found one")

    def _add(self, node: Any, name: str, inputs: list[str], depth: int) -> None:
        if depth > _MAX_DEPTH or len(self._nodes) > _MAX_NODES:
            raise ModelError("expected a graph of usual size, found functions nested too deeply")
        function = self._functions.get(node.attr["f"].func.name) if node.op in _CALLS else None
        if function is not None:
            self._inline(function, name, inputs, depth)
            return
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = name
        del copy.input[:]
        copy.input.extend(inputs)
        self._nodes.append(copy)

    def _inline(self, function: Any, name: str, inputs: list[str], depth: int) -> None:
        arguments: dict[str, str] = dict(
            zip([item.name for item in function.signature.input_arg], inputs, strict=False)
        )
        outputs = {item.name: _output_names(item) for item in function.node_def}

        def outer(tensor: str) -> str:
            if tensor in arguments:
                return arguments[tensor]
            node, _, rest = tensor.partition(":")
            output, _, index = rest.rpartition(":")
            offset = outputs.get(node, []).index(output) if output in outputs.get(node, []) else 0
            return f"{name}/{node}:{offset + int(index or 0)}"

        for node in function.node_def:
            own = [outer(item) for item in node.input if item[0] != "^"]
            self._add(node, f"{name}/{node.name}", own, depth + 1)
        for index, item in enumerate(function.signature.output_arg):
            self._aliases[f"{name}:{index}"] = outer(function.ret[item.name])


def _output_names(node: Any) -> list[str]:
    """Return the names of the outputs of a node; all outputs of a call have the same one."""
    from tensorflow.python.framework import op_def_registry  # noqa: PLC0415

    definition = op_def_registry.get(node.op)
    return [] if definition is None else [item.name for item in definition.output_arg]
