"""Reads a frozen GraphDef of unknown origin: its nodes, and what is constant in it.

Nothing is run: constants are NumPy arrays out of the protocol buffer, and the little arithmetic
between them (an unfolded batch norm has some) is done here, out of a short list of ops.
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

PASSED = frozenset({"CheckNumerics", "Identity", "PreventGradient", "Snapshot", "StopGradient"})
"""Ops that give their input as it is."""

_MOST_ELEMENTS = 1 << 28
_DEEPEST = 40
_STORED: dict[int, tuple[str, str]] = {
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

    A tensor is named as TensorFlow does, ``node:output``, or by the node alone for its first.

    Raises
    ------
    ModelError
        If the bytes are no GraphDef, or two nodes have one name.
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
            raise ModelError("expected a GraphDef with nodes of different names, found none")
        self._constants: dict[str, Array | None] = {}

    def node(self, tensor: str) -> Any:
        """Give the node of a tensor; only first outputs are ever followed."""
        name, _, output = tensor.partition(":")
        if output not in ("", "0"):
            raise ModelError(f"expected the first output of a node, found {tensor!r}")
        if name not in self.nodes:
            raise ModelError(f"expected a node {name!r} in the graph, found none")
        return self.nodes[name]

    def inputs(self, node: Any) -> list[str]:
        """Give the tensors that a node reads, those that only order it left out."""
        return [name for name in node.input if not name.startswith("^")]

    def past(self, tensor: str, ops: frozenset[str] = PASSED) -> str:
        """Follow a tensor back over ops that change nothing; gives the name of a node."""
        for _ in range(len(self.nodes)):
            node = self.node(tensor)
            if node.op not in ops or not self.inputs(node):
                return str(node.name)
            tensor = self.inputs(node)[0]
        raise ModelError(f"expected a graph without loops, found one at {tensor!r}")

    def constant(self, tensor: str, depth: int = 0) -> Array | None:
        """Give the value of a tensor that depends on constants alone, else None."""
        node = self.nodes.get(self.past(tensor))
        if node is None or depth > _DEEPEST:
            return None
        if node.name not in self._constants:
            self._constants[node.name] = self._computed(node, depth)
        return self._constants[node.name]

    def _computed(self, node: Any, depth: int) -> Array | None:
        if node.op == "Const":
            return array_of(node)
        operation = _cast_to(node.attr["DstT"].type) if node.op == "Cast" else None
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
            raise ModelError(f"constants of node {node.name!r} do not fit: {error}") from error


def _cast_to(kind: int) -> Callable[..., Array] | None:
    if kind not in _STORED or kind == _BFLOAT16:
        return None
    return lambda value: value.astype(_STORED[kind][0])


def array_of(node: Any) -> Array | None:
    """Read a ``Const`` node; None where its values are no numbers.

    Raises
    ------
    ModelError
        If the bytes do not fill its shape.
    """
    tensor = node.attr["value"].tensor
    if tensor.dtype not in _STORED:
        return None
    dtype, field = _STORED[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count > _MOST_ELEMENTS:
        raise ModelError(f"expected a constant of sensible size in {node.name!r}, found {shape}")
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * np.dtype(dtype).itemsize:
            raise ModelError(
                f"expected {count} numbers in {node.name!r}, found "
                f"{len(tensor.tensor_content)} bytes"
            )
        values = np.frombuffer(tensor.tensor_content, dtype)
    else:
        values = _listed(getattr(tensor, field), tensor.dtype, dtype, count)
    if tensor.dtype == _BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(shape)


def _listed(numbers: Any, kind: int, dtype: str, count: int) -> Array:
    """Read values that are listed one by one; the last one counts for all that are left."""
    values = np.array(numbers, "<u2" if kind in (_HALF, _BFLOAT16) else dtype)
    if kind == _HALF:
        values = values.view("<f2")
    if not len(values):
        return np.zeros(count, values.dtype)
    filled = np.full(count, values[-1])
    filled[: len(values)] = values[:count]
    return filled
