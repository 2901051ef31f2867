"""Reads a convolution of a graph of unknown origin, with its batch norm and its ReLU.

A batch norm may be one op (the deprecated one of 2015, or a fused one), split into products and
sums, or folded into the kernel and a bias. Each of these is a scale and a shift per channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.graph.reader import PASS_THROUGH, Graph

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_NORMS = frozenset(
    {
        "BatchNormWithGlobalNormalization",
        "FusedBatchNorm",
        "FusedBatchNormV2",
        "FusedBatchNormV3",
    }
)
_ARITHMETIC = frozenset({"Add", "AddV2", "BiasAdd", "Div", "Mul", "RealDiv", "Sub"})
_MAX_STEPS = 12
_FUSED_EPSILON = 1e-4
"""Default of the fused ops."""


@dataclass(frozen=True)
class Affine:
    """The function ``scale * tensor + shift`` per channel."""

    scale: Float64
    shift: Float64

    def is_identity(self) -> bool:
        """Return whether it changes nothing."""
        return bool((self.scale == 1).all() and (self.shift == 0).all())

    def after(self, scale: Any, shift: Any) -> Affine:
        """Return the composition: first the given scale and shift, then this one."""
        return Affine(self.scale * scale, self.shift + self.scale * shift)


IDENTITY = Affine(np.ones(1), np.zeros(1))


@dataclass(frozen=True)
class Norm:
    """The tensors and the epsilon of a batch norm in a graph."""

    tensors: dict[str, Float32]
    epsilon: float

    def affine(self) -> tuple[Float64, Float64]:
        """Return the equivalent scale and shift."""
        gamma, beta, mean, variance = (
            self.tensors[name].astype(np.float64) for name in inception.STATISTICS
        )
        scale = gamma / np.sqrt(variance + self.epsilon)
        return scale, beta - mean * scale


@dataclass(frozen=True)
class Unit:
    """A ``Conv2D`` node, its kernel, and the `inception.STATISTICS` of its batch norm."""

    node: Any
    kernel: Float32
    statistics: dict[str, Float32]


def read_unit(graph: Graph, name: str) -> Unit:
    """Read a convolution back from the ReLU that ends it.

    Raises
    ------
    ModelError
        If the nodes before the ReLU are no convolution; the message names the node.
    """
    node = graph.node(name)
    if node.op != "Relu":
        raise ModelError(f"expected the ReLU of a convolution at node {name!r}, found {node.op}")
    affine, norm = IDENTITY, None
    node = graph.node(graph.skip_back(graph.inputs(node)[0]))
    for _ in range(_MAX_STEPS):
        if node.op == "Conv2D":
            break
        if node.op in _NORMS and norm is None and affine.is_identity():
            norm, source = read_norm(graph, node), graph.inputs(node)[0]
        elif node.op in _NORMS:
            affine, norm = _compose(affine, norm), None
            affine = affine.after(*read_norm(graph, node).affine())
            source = graph.inputs(node)[0]
        else:
            affine, norm = _compose(affine, norm), None
            affine, source = step_back(graph, node, affine)
        node = graph.node(graph.skip_back(source))
    return _make_unit(graph, node, affine, norm)


def _make_unit(graph: Graph, node: Any, affine: Affine, norm: Norm | None) -> Unit:
    if node.op != "Conv2D":
        raise ModelError(f"expected a Conv2D at node {node.name!r}, found {node.op}")
    kernel = graph.constant(graph.inputs(node)[1])
    if kernel is None or kernel.ndim != 4:
        raise ModelError(
            f"expected a constant kernel of Conv2D {node.name!r}, found none; freeze the graph, "
            "so that its variables become constants"
        )
    if norm is not None and abs(norm.epsilon - inception.EPSILON) < 1e-8:
        statistics = norm.tensors
    else:
        statistics = _as_statistics(_compose(affine, norm), kernel.shape[3], node.name)
    for value in (kernel, *statistics.values()):
        if not np.isfinite(value).all():
            raise ModelError(f"expected finite numbers around {node.name!r}, found NaN or infinity")
    return Unit(node, np.asarray(kernel, np.float32), statistics)


def _compose(affine: Affine, norm: Norm | None) -> Affine:
    return affine if norm is None else affine.after(*norm.affine())


def _as_statistics(affine: Affine, channels: int, name: str) -> dict[str, Float32]:
    """Return the statistics of a batch norm that equals a scale and a shift."""
    statistics = (affine.scale, affine.shift, 0.0, 1 - inception.EPSILON)
    try:
        values = [np.broadcast_to(value, (channels,)).astype(np.float32) for value in statistics]
    except ValueError as error:
        raise ModelError(f"expected {channels} channels after {name!r}: {error}") from error
    return dict(zip(inception.STATISTICS, values, strict=True))


def read_norm(graph: Graph, node: Any) -> Norm:
    """Read the constants of a batch norm.

    Raises
    ------
    ModelError
        If they are not constant, or the batch norm is in training mode.
    """
    inputs, attributes = graph.inputs(node), node.attr
    if node.op == "BatchNormWithGlobalNormalization":
        order = ("moving_mean", "moving_variance", "beta", "gamma")
        epsilon = attributes["variance_epsilon"].f
    else:
        if "is_training" not in attributes or attributes["is_training"].b:
            raise ModelError(f"expected a batch norm for inference, {node.name!r} is for training")
        order = ("gamma", "beta", "moving_mean", "moving_variance")
        epsilon = attributes["epsilon"].f if "epsilon" in attributes else _FUSED_EPSILON
    tensors: dict[str, Float32] = {}
    for name, tensor in zip(order, inputs[1:], strict=False):
        value = graph.constant(tensor)
        if value is None or value.ndim != 1:
            raise ModelError(f"expected {name} of {node.name!r} to be constant, found {tensor!r}")
        tensors[name] = np.asarray(value, np.float32)
    if tensors.keys() != set(order) or len({value.shape for value in tensors.values()}) != 1:
        raise ModelError(f"expected {', '.join(order)} of the same length in {node.name!r}")
    if (tensors["moving_variance"] < 0).any():
        raise ModelError(f"expected variances of 0 or more in {node.name!r}, found one below")
    if (
        node.op == "BatchNormWithGlobalNormalization"
        and not attributes["scale_after_normalization"].b
    ):
        tensors["gamma"] = np.ones_like(tensors["gamma"])
    return Norm(tensors, epsilon)


def step_back(graph: Graph, node: Any, affine: Affine) -> tuple[Affine, str]:
    """Compose an affine with the sum, difference, product or quotient that precedes it.

    Returns
    -------
    Affine, str
        The affine of the input tensor of the node, and the name of that tensor.

    Raises
    ------
    ModelError
        If the node does something else; the message names the op and the node.
    """
    inputs = graph.inputs(node)
    if node.op in PASS_THROUGH and inputs:
        return affine, inputs[0]
    if node.op not in _ARITHMETIC or len(inputs) != 2:
        raise ModelError(f"op {node.op!r} of node {node.name!r} is not expected there")
    left, right = (graph.constant(tensor) for tensor in inputs)
    if (left is None) == (right is None):
        raise ModelError(f"expected one constant beside a tensor at node {node.name!r}")
    constant = left if right is None else right
    if constant is None or constant.size not in (1, *constant.shape[-1:]):
        raise ModelError(f"expected one number per channel at node {node.name!r}")
    value = constant.reshape(-1).astype(np.float64)
    tensor = inputs[0] if left is None else inputs[1]
    if node.op in ("Add", "AddV2", "BiasAdd"):
        return affine.after(1, value), tensor
    if node.op == "Mul":
        return affine.after(value, 0), tensor
    if node.op == "Sub":
        return (affine.after(1, -value) if left is None else affine.after(-1, value)), tensor
    if left is not None or (value == 0).any():
        raise ModelError(f"node {node.name!r} divides by a tensor that is not constant, or by 0")
    return affine.after(1 / value, 0), tensor
