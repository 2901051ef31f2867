"""Canonical tensors to a frozen graph: uint8 pictures in, float32 features out.

Batch norm is folded into the convolutions: with s = gamma / sqrt(variance + epsilon), the kernel
becomes kernel * s and the bias beta - mean * s, computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.models import inception
from pool3.models.graph.graphdef import GraphWriter, Shape

FEATURES = "features"
"""The graph's output, float32 ``(n, 2048)``; its input is `inception.INPUT`, uint8."""

_FLOAT = np.dtype(np.float32)
_INT = np.dtype(np.int32)
Array = npt.NDArray[np.float32]


def folded(tensors: Mapping[str, Array], scope: str) -> tuple[Array, Array]:
    """Fold one batch norm into its convolution.

    Parameters
    ----------
    tensors
        Canonical tensors, float32.
    scope
        The convolution's name.

    Returns
    -------
    kernel, bias
        float32, ``(height, width, in, out)`` and ``(out,)``.
    """
    gamma, beta, mean, variance = (
        tensors[f"{scope}/{name}"].astype(np.float64) for name in inception.STATISTICS
    )
    scale = gamma / np.sqrt(variance + inception.EPSILON)
    kernel = tensors[f"{scope}/kernel"] * scale
    return kernel.astype(np.float32), (beta - mean * scale).astype(np.float32)


def frozen_graph(
    tensors: Mapping[str, Array],
    *,
    variant: inception.Variant = inception.USUAL,
    input_size: int = inception.INPUT_SIZE,
) -> bytes:
    """Build the frozen graph, from ``uint8 (n, size, size, 3)`` to ``float32 (n, 2048)``.

    Parameters
    ----------
    tensors
        Every tensor of `inception.tensor_shapes`, float32.
    variant
        Which pool it ends in, and how pixels become numbers.
    input_size
        Height and width of a picture.

    Returns
    -------
    bytes
        A serialised GraphDef, the same for the same tensors.
    """
    writer = GraphWriter()
    outputs = {inception.INPUT: _normalised_pictures(writer, variant, input_size)}
    for layer in variant.layers:
        sources = [outputs[source] for source in layer.inputs]
        if layer.kind == "conv":
            outputs[layer.name] = _convolution(
                writer, layer, sources[0], folded(tensors, layer.name)
            )
        elif layer.kind == "concat":
            outputs[layer.name] = _concatenation(writer, layer, sources)
        else:
            op = "MaxPool" if layer.kind == "max_pool" else "AvgPool"
            outputs[layer.name] = writer.node(
                op, layer.name, *sources, T=_FLOAT, ksize=(1, *layer.kernel, 1), **_window(layer)
            )
    axes = writer.constant(f"{FEATURES}/axes", np.array([1, 2], np.int32))
    last = outputs[inception.LAYERS[-1].name]
    writer.node("Mean", FEATURES, last, axes, T=_FLOAT, Tidx=_INT, keep_dims=False)
    return writer.serialise()


def _normalised_pictures(writer: GraphWriter, variant: inception.Variant, size: int) -> str:
    """Pixels 0..255 to about -1..1, with Keras' own two steps so that rounding agrees."""
    pixel = np.dtype(np.uint8)
    pictures = writer.node(
        "Placeholder", inception.INPUT, dtype=pixel, shape=Shape((-1, size, size, 3))
    )
    floats = writer.node("Cast", "normalise/float", pictures, SrcT=pixel, DstT=_FLOAT)
    half = writer.constant("normalise/half_range", _constant(variant.divisor))
    one = writer.constant("normalise/one", _constant(variant.offset))
    scaled = writer.node("RealDiv", "normalise/scaled", floats, half, T=_FLOAT)
    return writer.node("Sub", "normalise/centred", scaled, one, T=_FLOAT)


def _constant(numbers: tuple[float, ...]) -> Array:
    return np.array(numbers if len(numbers) > 1 else numbers[0], np.float32)


def _convolution(
    writer: GraphWriter, layer: inception.Layer, source: str, weights: tuple[Array, Array]
) -> str:
    kernel = writer.constant(f"{layer.name}/kernel", weights[0])
    bias = writer.constant(f"{layer.name}/bias", weights[1])
    raw = writer.node("Conv2D", f"{layer.name}/conv", source, kernel, T=_FLOAT, **_window(layer))
    shifted = writer.node("BiasAdd", f"{layer.name}/shifted", raw, bias, T=_FLOAT)
    return writer.node("Relu", layer.name, shifted, T=_FLOAT)


def _concatenation(writer: GraphWriter, layer: inception.Layer, sources: list[str]) -> str:
    axis = writer.constant(f"{layer.name}/axis", np.array(3, np.int32))
    return writer.node("ConcatV2", layer.name, *sources, axis, N=len(sources), T=_FLOAT, Tidx=_INT)


def _window(layer: inception.Layer) -> dict[str, Any]:
    return {"strides": (1, layer.stride, layer.stride, 1), "padding": layer.padding}
