"""Makes a frozen graph from canonical tensors: uint8 pictures in, float32 features out.

Batch norms are folded into the convolutions: with s = gamma / sqrt(variance + epsilon), the kernel
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
"""The output of the graph, float32 ``(n, 2048)``; its input is `inception.INPUT`, uint8."""

_FLOAT = np.dtype(np.float32)
_INT = np.dtype(np.int32)
Array = npt.NDArray[np.float32]


def folded(tensors: Mapping[str, Array], scope: str) -> tuple[Array, Array]:
    """Fold a batch norm into its convolution.

    Parameters
    ----------
    tensors
        Canonical tensors, float32.
    scope
        The name of the convolution.

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
    variant: inception.Variant = inception.STANDARD,
    input_size: int = inception.INPUT_SIZE,
) -> bytes:
    """Build the frozen graph, from ``uint8 (n, size, size, 3)`` to ``float32 (n, 2048)``.

    Parameters
    ----------
    tensors
        All tensors of `inception.tensor_shapes`, float32.
    variant
        The operation of its last pool, and how pixels are resized and scaled.
    input_size
        Height and width of a picture.

    Returns
    -------
    bytes
        A serialised GraphDef, the same for the same tensors.
    """
    writer = GraphWriter()
    outputs = {inception.INPUT: _add_input(writer, variant, input_size)}
    for layer in variant.layers:
        sources = [outputs[source] for source in layer.inputs]
        if layer.kind == "conv":
            outputs[layer.name] = _add_convolution(
                writer, layer, sources[0], folded(tensors, layer.name)
            )
        elif layer.kind == "concat":
            outputs[layer.name] = _add_concatenation(writer, layer, sources)
        else:
            op = "MaxPool" if layer.kind == "max_pool" else "AvgPool"
            outputs[layer.name] = writer.node(
                op,
                layer.name,
                *sources,
                T=_FLOAT,
                ksize=(1, *layer.kernel, 1),
                **_window_attributes(layer),
            )
    axes = writer.constant(f"{FEATURES}/axes", np.array([1, 2], np.int32))
    last = outputs[inception.LAYERS[-1].name]
    writer.node("Mean", FEATURES, last, axes, T=_FLOAT, Tidx=_INT, keep_dims=False)
    return writer.serialise()


def _add_input(writer: GraphWriter, variant: inception.Variant, size: int) -> str:
    """Scale pixels of 0..255 to about -1..1 in two steps, as Keras does, for the same rounding."""
    pixel = np.dtype(np.uint8)
    pictures = writer.node(
        "Placeholder", inception.INPUT, dtype=pixel, shape=Shape((-1, size, size, 3))
    )
    floats = writer.node("Cast", "normalise/float", pictures, SrcT=pixel, DstT=_FLOAT)
    if variant.network_size is not None:
        floats = _add_resize(writer, floats, variant.network_size)
    divisor = writer.constant("normalise/half_range", _as_array(variant.divisor))
    offset = writer.constant("normalise/one", _as_array(variant.offset))
    scaled = writer.node("RealDiv", "normalise/scaled", floats, divisor, T=_FLOAT)
    return writer.node("Sub", "normalise/centred", scaled, offset, T=_FLOAT)


def _add_resize(writer: GraphWriter, pictures: str, size: int) -> str:
    sides = writer.constant("resize/size", np.array([size, size], np.int32))
    options = {"align_corners": False, "half_pixel_centers": True}
    return writer.node("ResizeBilinear", "resize", pictures, sides, T=_FLOAT, **options)


def _as_array(numbers: tuple[float, ...]) -> Array:
    return np.array(numbers if len(numbers) > 1 else numbers[0], np.float32)


def _add_convolution(
    writer: GraphWriter, layer: inception.Layer, source: str, weights: tuple[Array, Array]
) -> str:
    kernel = writer.constant(f"{layer.name}/kernel", weights[0])
    bias = writer.constant(f"{layer.name}/bias", weights[1])
    product = writer.node(
        "Conv2D", f"{layer.name}/conv", source, kernel, T=_FLOAT, **_window_attributes(layer)
    )
    shifted = writer.node("BiasAdd", f"{layer.name}/shifted", product, bias, T=_FLOAT)
    return writer.node("Relu", layer.name, shifted, T=_FLOAT)


def _add_concatenation(writer: GraphWriter, layer: inception.Layer, sources: list[str]) -> str:
    axis = writer.constant(f"{layer.name}/axis", np.array(3, np.int32))
    return writer.node("ConcatV2", layer.name, *sources, axis, N=len(sources), T=_FLOAT, Tidx=_INT)


def _window_attributes(layer: inception.Layer) -> dict[str, Any]:
    return {"strides": (1, layer.stride, layer.stride, 1), "padding": layer.padding}
