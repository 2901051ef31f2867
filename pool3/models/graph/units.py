"""One convolution of a graph of unknown origin, with all that is done to it before its ReLU.

Batch norm comes as one op (the long-deprecated one of 2015, or a fused one), taken apart into
products and sums, or folded into the kernel with a bias left over. All of these are a scale and a
shift for each channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.graph.reader import PASSED, Graph

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
_SUMS = frozenset({"Add", "AddV2", "BiasAdd", "Div", "Mul", "RealDiv", "Sub"})
_MOST_STEPS = 12
_FUSED_EPSILON = 1e-4
"""What the fused ops take where their attribute is left out."""


@dataclass(frozen=True)
class Affine:
    """What becomes of a tensor: ``scale * tensor + shift`` for each channel."""

    scale: Float64
    shift: Float64

    def is_identity(self) -> bool:
        """Tell whether nothing becomes of it."""
        return bool((self.scale == 1).all() and (self.shift == 0).all())

    def after(self, scale: Any, shift: Any) -> Affine:
        """Give this one, done after another scale and shift."""
        return Affine(self.scale * scale, self.shift + self.scale * shift)


NOTHING = Affine(np.ones(1), np.zeros(1))


@dataclass(frozen=True)
class Norm:
    """The tensors of a batch norm in a graph, and its epsilon."""

    tensors: dict[str, Float32]
    epsilon: float

    def affine(self) -> tuple[Float64, Float64]:
        """Give the scale and the shift that it comes to."""
        gamma, beta, mean, variance = (
            self.tensors[part].astype(np.float64) for part in inception.STATISTICS
        )
        scale = gamma / np.sqrt(variance + self.epsilon)
        return scale, beta - mean * scale


@dataclass(frozen=True)
class Unit:
    """A ``Conv2D`` node, its kernel, and the `inception.STATISTICS` that follow it."""

    node: Any
    kernel: Float32
    statistics: dict[str, Float32]


def read_unit(graph: Graph, name: str) -> Unit:
    """Read a convolution back from the ReLU that ends it.

    Raises
    ------
    ModelError
        If something else stands there; the node is named.
    """
    node = graph.node(name)
    if node.op != "Relu":
        raise ModelError(f"expected the ReLU of a convolution at node {name!r}, found {node.op}")
    affine, norm = NOTHING, None
    node = graph.node(graph.past(graph.inputs(node)[0]))
    for _ in range(_MOST_STEPS):
        if node.op == "Conv2D":
            break
        if node.op in _NORMS and norm is None and affine.is_identity():
            norm, source = read_norm(graph, node), graph.inputs(node)[0]
        elif node.op in _NORMS:
            affine, norm = _with(affine, norm), None
            affine = affine.after(*read_norm(graph, node).affine())
            source = graph.inputs(node)[0]
        else:
            affine, norm = _with(affine, norm), None
            affine, source = step_back(graph, node, affine)
        node = graph.node(graph.past(source))
    return _unit(graph, node, affine, norm)


def _unit(graph: Graph, node: Any, affine: Affine, norm: Norm | None) -> Unit:
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
        statistics = _plain(_with(affine, norm), kernel.shape[3], node.name)
    for value in (kernel, *statistics.values()):
        if not np.isfinite(value).all():
            raise ModelError(f"expected finite numbers around {node.name!r}, found NaN or infinity")
    return Unit(node, np.asarray(kernel, np.float32), statistics)


def _with(affine: Affine, norm: Norm | None) -> Affine:
    return affine if norm is None else affine.after(*norm.affine())


def _plain(affine: Affine, channels: int, name: str) -> dict[str, Float32]:
    """Give a scale and a shift as the statistics that come to them."""
    parts = (affine.scale, affine.shift, 0.0, 1 - inception.EPSILON)
    try:
        values = [np.broadcast_to(part, (channels,)).astype(np.float32) for part in parts]
    except ValueError as error:
        raise ModelError(f"expected {channels} channels after {name!r}: {error}") from error
    return dict(zip(inception.STATISTICS, values, strict=True))


def read_norm(graph: Graph, node: Any) -> Norm:
    """Read a batch norm's constants.

    Raises
    ------
    ModelError
        If they are none, or it is one for training.
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
    for part, tensor in zip(order, inputs[1:], strict=False):
        value = graph.constant(tensor)
        if value is None or value.ndim != 1:
            raise ModelError(f"expected {part} of {node.name!r} to be constant, found {tensor!r}")
        tensors[part] = np.asarray(value, np.float32)
    if tensors.keys() != set(order) or len({value.shape for value in tensors.values()}) != 1:
        raise ModelError(f"expected {', '.join(order)} of one length in {node.name!r}")
    if (tensors["moving_variance"] < 0).any():
        raise ModelError(f"expected variances of 0 or more in {node.name!r}, found one below")
    if (
        node.op == "BatchNormWithGlobalNormalization"
        and not attributes["scale_after_normalization"].b
    ):
        tensors["gamma"] = np.ones_like(tensors["gamma"])
    return Norm(tensors, epsilon)


def step_back(graph: Graph, node: Any, affine: Affine) -> tuple[Affine, str]:
    """Take one sum, difference, product or quotient with a constant into an affine.

    Returns
    -------
    Affine, str
        Of the tensor that the node computes with, and its name.

    Raises
    ------
    ModelError
        If the node does something else; op and node are named.
    """
    inputs = graph.inputs(node)
    if node.op in PASSED and inputs:
        return affine, inputs[0]
    if node.op not in _SUMS or len(inputs) != 2:
        raise ModelError(f"op {node.op!r} of node {node.name!r} has no place there")
    left, right = (graph.constant(tensor) for tensor in inputs)
    if (left is None) == (right is None):
        raise ModelError(f"expected one constant beside a tensor at node {node.name!r}")
    constant = left if right is None else right
    if constant is None or constant.size not in (1, *constant.shape[-1:]):
        raise ModelError(f"expected one number a channel at node {node.name!r}")
    value = constant.reshape(-1).astype(np.float64)
    tensor = inputs[0] if left is None else inputs[1]
    if node.op in ("Add", "AddV2", "BiasAdd"):
        return affine.after(1, value), tensor
    if node.op == "Mul":
        return affine.after(value, 0), tensor
    if node.op == "Sub":
        return (affine.after(1, -value) if left is None else affine.after(-1, value)), tensor
    if left is not None or (value == 0).any():
        raise ModelError(f"node {node.name!r} divides by what is no constant, or by 0")
    return affine.after(1 / value, 0), tensor
