"""TensorFlow's GraphDef as protocol buffers, without TensorFlow.

The messages describe only the fields that a frozen graph needs; other fields survive a round trip
as unknown fields. They are in a separate descriptor pool, so they do not collide with those of
TensorFlow. A GraphDef is a program: `check_ops` rejects a graph that could do more than arithmetic
on its input.

Reference: ``tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from pool3.errors import ModelError

ALLOWED_OPS = frozenset(
    {
        "AvgPool",
        "BiasAdd",
        "Cast",
        "ConcatV2",
        "Const",
        "Conv2D",
        "Identity",
        "MaxPool",
        "Mean",
        "Placeholder",
        "RealDiv",
        "Relu",
        "ResizeBilinear",
        "Sub",
    }
)
"""Pure arithmetic: no files, no network, no state, no calls."""

PRODUCER = 2000
"""GraphDef version to write; the ops in use have not changed in many versions before and after."""

_DTYPES = {"float32": 1, "uint8": 4, "int32": 3}
_PACKAGE = "pool3.graphdef"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "bool": _Field.TYPE_BOOL,
}
# message -> field -> (number, type); "*" marks a repeated field. Enums are int32 on the wire.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64")},
    "Shape": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "Shape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "*float"),
        "double_val": (6, "*double"),
        "int_val": (7, "*int32"),
        "int64_val": (10, "*int64"),
        "half_val": (13, "*int32"),
    },
    "Function": {"name": (1, "string")},
    "List": {"i": (3, "*int64"), "func": (9, "*Function")},
    "Attribute": {
        "list": (1, "List"),
        "s": (2, "bytes"),
        "i": (3, "int64"),
        "f": (4, "float"),
        "b": (5, "bool"),
        "type": (6, "int32"),
        "shape": (7, "Shape"),
        "tensor": (8, "Tensor"),
        "func": (10, "Function"),
    },
    "Node": {
        "name": (1, "string"),
        "op": (2, "string"),
        "input": (3, "*string"),
        "attr": (5, "*Node.AttrEntry"),
    },
    "Library": {},
    "Versions": {"producer": (1, "int32")},
    "Graph": {"node": (1, "*Node"), "library": (2, "Library"), "versions": (4, "Versions")},
}


def _add_fields(target: descriptor_pb2.DescriptorProto, fields: dict[str, tuple[int, str]]) -> None:
    for name, (number, kind) in fields.items():
        field = target.field.add(name=name, number=number)
        field.label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
        single = kind.removeprefix("*")
        if single in _SCALARS:
            field.type = _SCALARS[single]
        else:
            field.type = _Field.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{single}"


def _graph_class() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="pool3/graphdef.proto", package=_PACKAGE, syntax="proto3"
    )
    messages = {name: file.message_type.add(name=name) for name in _MESSAGES}
    for name, fields in _MESSAGES.items():
        _add_fields(messages[name], fields)
    messages["Attribute"].oneof_decl.add(name="value")
    for field in messages["Attribute"].field:
        field.oneof_index = 0
    entry = messages["Node"].nested_type.add(name="AttrEntry")
    entry.options.map_entry = True
    _add_fields(entry, {"key": (1, "string"), "value": (2, "Attribute")})
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Graph"))


GraphDef: type[Any] = _graph_class()
"""The message class, with the fields ``node``, ``library`` and ``versions``."""


class GraphWriter:
    """Writes a GraphDef node by node."""

    def __init__(self) -> None:
        self._graph = GraphDef()
        self._graph.versions.producer = PRODUCER

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return its name.

        The type of a value determines the type of its attribute: str to bytes, NumPy dtype to
        type, tuple to a list of integers, `Shape` to shape, array to tensor (for ``Const``), bool
        and int to the same.
        """
        node = self._graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            _set_attribute(node.attr[key], value)
        return name

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add an array as a ``Const`` node and return its name."""
        return self.node("Const", name, dtype=value.dtype, value=value)

    def serialise(self) -> bytes:
        """Return the graph as bytes; equal graphs have equal bytes."""
        return bytes(self._graph.SerializeToString(deterministic=True))


def _set_attribute(attribute: Any, value: Any) -> None:
    if isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.i = value
    elif isinstance(value, str):
        attribute.s = value.encode()
    elif isinstance(value, np.dtype):
        attribute.type = _DTYPES[value.name]
    elif isinstance(value, tuple):
        attribute.list.i.extend(value)
    elif isinstance(value, Shape):
        for size in value.sizes:
            attribute.shape.dim.add(size=size)
    else:
        attribute.tensor.dtype = _DTYPES[value.dtype.name]
        for size in value.shape:
            attribute.tensor.tensor_shape.dim.add(size=size)
        little_endian = value.dtype.newbyteorder("<")
        attribute.tensor.tensor_content = value.astype(little_endian, order="C").tobytes()


@dataclass(frozen=True)
class Shape:
    """The shape of a placeholder; -1 is an unknown size."""

    sizes: tuple[int, ...]


def check_ops(graph: bytes) -> None:
    """Reject a graph that could do more than arithmetic on its input.

    Parameters
    ----------
    graph
        A serialised GraphDef.

    Raises
    ------
    ModelError
        If the bytes are no GraphDef, or the graph has no nodes, has an op outside of `ALLOWED_OPS`
        (the message names the op and the node), or defines or calls functions.
    """
    parsed = GraphDef()
    try:
        parsed.ParseFromString(graph)
    except message.DecodeError as error:
        raise ModelError(
            f"expected a frozen GraphDef, found {len(graph)} bytes of another kind ({error}); "
            "make the model directory again from its weights"
        ) from error
    if not parsed.node:
        raise ModelError("expected a frozen GraphDef, found one without nodes")
    if parsed.library.ByteSize():
        raise ModelError(
            "expected a GraphDef without functions, found a function library; freeze the graph "
            "with its functions inlined"
        )
    for node in parsed.node:
        _check_node(node)


def _check_node(node: Any) -> None:
    if node.op not in ALLOWED_OPS:
        raise ModelError(
            f"op {node.op!r} of node {node.name!r} is not allowed: a model may only use "
            f"{', '.join(sorted(ALLOWED_OPS))}"
        )
    for key, attribute in node.attr.items():
        if attribute.WhichOneof("value") == "func" or attribute.list.func:
            raise ModelError(f"attribute {key!r} of node {node.name!r} calls a function")
