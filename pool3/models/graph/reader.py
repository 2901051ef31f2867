"""Reads a frozen GraphDef of unknown origin: its nodes and its constants.

The graph is not run: constants are read from the protocol buffer as NumPy arrays, and simple
arithmetic between them (as in an unfolded batch norm) is computed here, for a short list of ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import message

from pool3.errors import ModelError
from pool3.models.graph.graphdef import GraphDef

Array = npt.NDArray[Any]

PASS_THROUGH = frozenset(
    {"CheckNumerics", "Identity", "PreventGradient", "Snapshot", "StopGradient"}
)
"""Ops that return their input unchanged."""

_MAX_ELEMENTS = 1 << 28
_MAX_DEPTH = 40
_DTYPES: dict[int, tuple[str, str]] = {
    1: ("<f4", "float_val"),
    2: ("<f8", "double_val"),
    3: ("<i4", "int_val"),
    9: ("<i8", "int64_val"),
    14: ("<u2", "half_val"),
    19: ("<f2", "half_val"),
}
_BFLOAT16, _HALF = 14, 19
_ARITHMETIC: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Div": np.divide,
    "Maximum": np.maximum,
    "Mul": np.multiply,
    "Neg": np.negative,
    "RealDiv": np.divide,
    "Reciprocal": np.reciprocal,
    "Reshape": np.reshape,
    "Rsqrt": lambda value: 1 / np.sqrt(value),
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
}


class Graph:
    """The nodes of a GraphDef by name.

    The name of a tensor is ``node:output`` as in TensorFlow, or just ``node`` for output 0.

    Raises
    ------
    ModelError
        If the bytes are no GraphDef, or two nodes have the same name.
    """

    def __init__(self, data: bytes) -> None:
        parsed = GraphDef()
        try:
            parsed.ParseFromString(data)
        except message.DecodeError as error:
            raise ModelError(
                f"expected a frozen GraphDef, found {len(data)} bytes that are none, or are "
                f"damaged or cut short ({error}); copy or download the file again"
            ) from error
        self.nodes: dict[str, Any] = {node.name: node for node in parsed.node}
        if not self.nodes or len(self.nodes) != len(parsed.node):
            raise ModelError("expected a GraphDef whose nodes have unique names, found none")
        self._constants: dict[str, Array | None] = {}

    def node(self, tensor: str) -> Any:
        """Return the node of a tensor, which must be its first output."""
        name, _, output = tensor.partition(":")
        if output not in ("", "0"):
            raise ModelError(f"expected the first output of a node, found {tensor!r}")
        if name not in self.nodes:
            raise ModelError(f"expected a node {name!r} in the graph, found none")
        return self.nodes[name]

    def inputs(self, node: Any) -> list[str]:
        """Return the input tensors of a node, without its control inputs."""
        return [name for name in node.input if not name.startswith("^")]

    def skip_back(self, tensor: str, ops: frozenset[str] = PASS_THROUGH) -> str:
        """Follow a tensor back over nodes with these ops; return the name of the node before."""
        for _ in range(len(self.nodes)):
            node = self.node(tensor)
            if node.op not in ops or not self.inputs(node):
                return str(node.name)
            tensor = self.inputs(node)[0]
        raise ModelError(f"expected a graph without loops, found one at {tensor!r}")

    def constant(self, tensor: str, depth: int = 0) -> Array | None:
        """Return the value of a tensor that depends on constants only, else None."""
        node = self.nodes.get(self.skip_back(tensor))
        if node is None or depth > _MAX_DEPTH:
            return None
        if node.name not in self._constants:
            self._constants[node.name] = self._compute(node, depth)
        return self._constants[node.name]

    def _compute(self, node: Any, depth: int) -> Array | None:
        if node.op == "Const":
            return array_of(node)
        operation = _cast_operation(node.attr["DstT"].type) if node.op == "Cast" else None
        if node.op == "Squeeze":
            operation = _squeeze_operation(tuple(node.attr["squeeze_dims"].list.i))
        operation = operation or _ARITHMETIC.get(node.op)
        if operation is None:
            return None
        values = [self.constant(tensor, depth + 1) for tensor in self.inputs(node)]
        if not values or any(value is None for value in values):
            return None
        try:
            with np.errstate(all="ignore"):
                return operation(*values)
        except (TypeError, ValueError) as error:
            raise ModelError(f"constants of node {node.name!r} do not match: {error}") from error


def _squeeze_operation(axes: tuple[int, ...]) -> Callable[..., Array]:
    return lambda value: np.squeeze(value, axes or None)


def _cast_operation(kind: int) -> Callable[..., Array] | None:
    if kind not in _DTYPES or kind == _BFLOAT16:
        return None
    return lambda value: value.astype(_DTYPES[kind][0])


def array_of(node: Any) -> Array | None:
    """Read a ``Const`` node; None if its values are not numbers.

    Raises
    ------
    ModelError
        If the number of bytes does not match its shape.
    """
    tensor = node.attr["value"].tensor
    if tensor.dtype not in _DTYPES:
        return None
    dtype, field = _DTYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count > _MAX_ELEMENTS:
        raise ModelError(f"expected a constant of valid size in {node.name!r}, found {shape}")
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * np.dtype(dtype).itemsize:
            raise ModelError(
                f"expected {count} numbers in {node.name!r}, found "
                f"{len(tensor.tensor_content)} bytes"
            )
        values = np.frombuffer(tensor.tensor_content, dtype)
    else:
        values = _repeated_values(getattr(tensor, field), tensor.dtype, dtype, count)
    if tensor.dtype == _BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(shape)


def _repeated_values(numbers: Any, kind: int, dtype: str, count: int) -> Array:
    """Read values from a repeated field; its last value fills the rest of the array."""
    values = np.array(numbers, "<u2" if kind in (_HALF, _BFLOAT16) else dtype)
    if kind == _HALF:
        values = values.view("<f2")
    if not len(values):
        return np.zeros(count, values.dtype)
    filled = np.full(count, values[-1])
    filled[: len(values)] = values[:count]
    return filled
