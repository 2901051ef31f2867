"""Reads what a graph does with its pictures before the first convolution.

The nodes are followed back from the input of the convolution to the input of the graph, and each is
described by `Pixels`; nothing is run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pool3.errors import ModelError
from pool3.models.graph.reader import PASS_THROUGH, Graph
from pool3.models.pixels import Pixels, joined, stacked

STARTS = frozenset({"DecodeJpeg", "DecodePng", "Placeholder", "PlaceholderWithDefault"})
_RESHAPED = frozenset({"ExpandDims", "Reshape", "Squeeze"})
_FLOATS = {1, 2, 14, 19}
_UINT8 = 4
_MAX_DEPTH = 200


class InputReader:
    """Describes tensors of a graph as functions of its input.

    Parameters
    ----------
    graph
        Any graph.
    start
        The node of the input; by default the first of `STARTS`.
    remedy
        The end of a message about a node that is not described.
    """

    def __init__(self, graph: Graph, start: str | None = None, remedy: str = "") -> None:
        self.start: Any = None
        self._graph = graph
        self._start = start
        self._remedy = remedy
        self._results: dict[str, Pixels] = {}

    def read(self, tensor: str, depth: int = 0) -> Pixels:
        """Return the pixels of a tensor.

        Raises
        ------
        ModelError
            If a node before it does something else; the message names the node and its op.
        """
        if depth > _MAX_DEPTH:
            raise ModelError(
                "expected a graph without loops, found one before the first convolution"
            )
        if tensor not in self._results:
            self._results[tensor] = self._evaluate(tensor, depth)
        return self._results[tensor]

    def _evaluate(self, tensor: str, depth: int) -> Pixels:
        name, _, output = tensor.partition(":")
        node = self._graph.node(name)
        if node.name == self._start or (self._start is None and node.op in STARTS):
            self.start = node
            return start_pixels(node)
        step = _STEPS.get(node.op)
        if step is None:
            raise self._refused(node, f"op {node.op!r} of node {node.name!r} is not expected there")
        operands = [self._operand(item, depth) for item in self._graph.inputs(node)]
        try:
            return step(node, operands, int(output or 0))
        except (ModelError, IndexError, TypeError, ValueError) as error:
            raise self._refused(node, f"node {node.name!r} ({node.op}): {error}") from error

    def _operand(self, tensor: str, depth: int) -> Any:
        """Return an input of a node: an array if it is constant, else pixels."""
        constant = self._graph.constant(tensor) if tensor.partition(":")[2] in ("", "0") else None
        return self.read(tensor, depth + 1) if constant is None else constant

    def _refused(self, node: Any, reason: str) -> ModelError:
        return ModelError(
            f"expected the input of pictures before the first convolution, but {reason}"
            f"{self._remedy}"
        )


def start_pixels(node: Any) -> Pixels:
    """Return the pixels of an input node of a graph."""
    decoded = node.op.startswith("Decode")
    sides = [dim.size for dim in node.attr["shape"].shape.dim]
    is_bytes = decoded or node.attr["dtype"].type == _UINT8
    if len(sides) == 4 and sides[1] == 3 and sides[3] != 3:
        axes, sides = "nchw", sides[2:]
    else:
        axes, sides = "nhwc", sides[1:3]
    if len(sides) != 2 or min(sides) <= 0:
        return Pixels(axes=axes, is_bytes=is_bytes)
    if sides[0] != sides[1]:
        raise ModelError(f"expected square pictures at {node.name!r}, found {sides}")
    return Pixels(axes=axes, size=sides[0], is_bytes=is_bytes)


def _numbers(value: Any) -> list[int]:
    if isinstance(value, Pixels):
        raise ModelError("it depends on the pixels")
    return [int(number) for number in np.asarray(value).reshape(-1)]


def _pair(operands: list[Any]) -> tuple[Pixels, Any, bool]:
    """Return the pixels and the constant of an operation, and whether the constant is first."""
    first, second = operands
    if isinstance(first, Pixels) == isinstance(second, Pixels):
        raise ModelError("expected one constant beside a tensor")
    return (first, second, False) if isinstance(first, Pixels) else (second, first, True)


def _same(node: Any, operands: list[Any], output: int) -> Pixels:
    del node, output
    return _pixels(operands[0])


def _pixels(value: Any) -> Pixels:
    if not isinstance(value, Pixels):
        raise ModelError("it is a constant")
    return value


def _cast(node: Any, operands: list[Any], output: int) -> Pixels:
    pixels = _same(node, operands, output)
    if node.attr["DstT"].type not in _FLOATS and not (pixels.is_unscaled and pixels.is_bytes):
        raise ModelError("it rounds numbers")
    return pixels


def _reshape(node: Any, operands: list[Any], output: int) -> Pixels:
    pixels = _same(node, operands, output)
    shape = _numbers(operands[1]) if node.op == "Reshape" else [3]
    if pixels.axes[-1] != "c" or shape[-1] != 3 or "c" not in pixels.axes:
        raise ModelError("it changes the shape of pictures")
    return pixels


def _add(node: Any, operands: list[Any], output: int) -> Pixels:
    del node, output
    pixels, constant, _ = _pair(operands)
    return pixels.added(constant)


def _subtract(node: Any, operands: list[Any], output: int) -> Pixels:
    del node, output
    pixels, constant, is_first = _pair(operands)
    if is_first:
        return pixels.multiplied(-1.0).added(constant)
    return pixels.added(-np.asarray(constant, np.float64))


def _multiply(node: Any, operands: list[Any], output: int) -> Pixels:
    del node, output
    pixels, constant, _ = _pair(operands)
    return pixels.multiplied(constant)


def _divide(node: Any, operands: list[Any], output: int) -> Pixels:
    del node, output
    pixels, constant, is_first = _pair(operands)
    if is_first:
        raise ModelError("it divides by pixels")
    return pixels.divided(constant)


def _transpose(node: Any, operands: list[Any], output: int) -> Pixels:
    return _same(node, operands, output).transposed(_numbers(operands[1]))


def _reverse(node: Any, operands: list[Any], output: int) -> Pixels:
    return _same(node, operands, output).reversed(_numbers(operands[1]))


def _take(node: Any, operands: list[Any], output: int) -> Pixels:
    pixels, axis = _same(node, operands, output), _numbers(operands[2])[0]
    indices = np.asarray(operands[1])
    if pixels.axis(axis) != "c" or indices.ndim != 1:
        raise ModelError("it takes rows or columns of pictures")
    return pixels.taken(_numbers(indices))


def _slice(node: Any, operands: list[Any], output: int) -> Pixels:
    pixels = _same(node, operands, output)
    begin, end, step = (_numbers(operand) for operand in operands[1:4])
    masks = {
        name: node.attr[f"{name}_mask"].i
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    items: list[slice | int | None] = []
    for at in range(len(begin)):
        bit = 1 << at
        if masks["ellipsis"] & bit:
            items += [slice(None)] * (len(pixels.axes) - len(begin) + 1)
        elif masks["new_axis"] & bit:
            items.append(None)
        elif masks["shrink_axis"] & bit:
            items.append(begin[at])
        else:
            first = None if masks["begin"] & bit else begin[at]
            last = None if masks["end"] & bit else end[at]
            items.append(slice(first, last, step[at]))
    return pixels.sliced(items)


def _concatenate(node: Any, operands: list[Any], output: int) -> Pixels:
    del output
    axis = _numbers(operands[0] if node.op == "Concat" else operands[-1])[0]
    several = operands[1:] if node.op == "Concat" else operands[:-1]
    several = [_pixels(item) for item in several]
    if several[0].axis(axis) != "c":
        raise ModelError("it joins pictures")
    return joined(several)


def _pack(node: Any, operands: list[Any], output: int) -> Pixels:
    del output
    several = [_pixels(item) for item in operands]
    if node.attr["axis"].i not in (-1, len(several[0].axes)):
        raise ModelError("it stacks pictures")
    return stacked(several)


def _split(node: Any, operands: list[Any], output: int) -> Pixels:
    axis, pixels = _numbers(operands[0])[0], _pixels(operands[1])
    count, channels = node.attr["num_split"].i, len(pixels.source)
    if pixels.axis(axis) != "c" or count != channels:
        raise ModelError("it splits pictures")
    return pixels.taken([output])


def _unpack(node: Any, operands: list[Any], output: int) -> Pixels:
    pixels = _pixels(operands[0])
    if pixels.axis(node.attr["axis"].i) != "c":
        raise ModelError("it splits pictures")
    return pixels.sliced([output if axis == "c" else slice(None) for axis in pixels.axes])


def _resize(node: Any, operands: list[Any], output: int) -> Pixels:
    pixels, sides = _same(node, operands, output), _numbers(operands[1])
    if len(sides) != 2 or node.attr["align_corners"].b:
        raise ModelError("it resizes with align_corners, or to no constant size")
    half_pixel = bool(node.attr["half_pixel_centers"].b)
    return pixels.resized_to(sides[0], sides[1], half_pixel=half_pixel)


_STEPS: dict[str, Callable[[Any, list[Any], int], Pixels]] = {
    **dict.fromkeys(PASS_THROUGH, _same),
    **dict.fromkeys(_RESHAPED, _reshape),
    **dict.fromkeys(("Add", "AddV2", "BiasAdd"), _add),
    **dict.fromkeys(("Concat", "ConcatV2"), _concatenate),
    **dict.fromkeys(("Div", "RealDiv"), _divide),
    "Cast": _cast,
    "GatherV2": _take,
    "Mul": _multiply,
    "Pack": _pack,
    "ResizeBilinear": _resize,
    "ReverseV2": _reverse,
    "Split": _split,
    "StridedSlice": _slice,
    "Sub": _subtract,
    "Transpose": _transpose,
    "Unpack": _unpack,
}
