"""Makes a model from the network's weights and what its source does with pixels before it.

Scales and shifts go to `inception.Variant`, another order of channels into the first kernel, a
resize into the graph or, if the source takes pictures of any size, into ``model.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.directory import RESIZE, ModelDirectory, model_from_tensors
from pool3.models.pixels import Pixels

_MAX_PIXEL = 4.0
"""Preprocessed pixels are about -1..1; larger values mean that the input range differs."""

_MAX_SCALE = 0.125
"""Above it, pixels of 0..1 are more likely than those of 0..255: 0.125² is about 4 / 255."""

_MIN_SIZE = 75
_UNIT_NOTE = (
    "what stands before its network suggests an input of 0 to 1, so pictures are divided by 255 "
    "first"
)
_ORDER = [0, 1, 2]
_FIRST_KERNEL = f"{inception.CONVOLUTIONS[0].name}/kernel"
Array = npt.NDArray[np.float64]


def prepared_model(
    tensors: Mapping[str, npt.NDArray[np.float32]],
    pixels: Pixels,
    *,
    source: str,
    last_pool: inception.Kind = "average_pool",
    notes: tuple[str, ...] = (),
    remedy: str = "",
) -> ModelDirectory:
    """Make a model from canonical tensors and the input of its first convolution.

    Parameters
    ----------
    tensors
        All tensors of `inception.tensor_shapes`, float32.
    pixels
        The input of the first convolution. Unscaled pixels are those that the caller scaled to
        -1..1, as ``preprocess_input`` of Keras does.
    source, notes
        As in `ModelDirectory`.
    last_pool
        As in `inception.Variant`.
    remedy
        The end of the message for a scale that is not understood.

    Raises
    ------
    ModelError
        If a model directory cannot describe the preparation.
    """
    if pixels.axes != "nhwc":
        raise ModelError(
            "expected pictures as rows, columns, channels before the first convolution, found "
            f"their axes as {pixels.axes}"
        )
    if sorted(pixels.source) != _ORDER:
        raise ModelError(
            f"expected red, green and blue once each before the first convolution, found channels "
            f"{pixels.source}"
        )
    by_source = np.argsort(pixels.source)
    if pixels.source != tuple(_ORDER):
        kernel = np.ascontiguousarray(tensors[_FIRST_KERNEL][:, :, by_source, :])
        tensors = {**tensors, _FIRST_KERNEL: kernel}
    scale, shift = (np.array(values)[by_source] for values in (pixels.scale, pixels.shift))
    fields, is_unit = _scaling(pixels, scale, shift, remedy)
    resize, input_size, network_size = _sizes(pixels)
    return model_from_tensors(
        tensors,
        source=source,
        notes=(*notes, _UNIT_NOTE) if is_unit else notes,
        resize=resize,
        variant=inception.Variant(last_pool=last_pool, network_size=network_size, **fields),
        input_size=input_size,
    )


def _sizes(pixels: Pixels) -> tuple[str, int, int | None]:
    """Return the resize of pictures, the input size, and the size that the graph resizes to."""
    size, resized = pixels.size, pixels.resized
    side = resized or size
    if side is not None and side < _MIN_SIZE:
        raise ModelError(
            f"expected pictures of one square size of {_MIN_SIZE} pixels or more, found {side}"
        )
    if resized is None:
        return RESIZE, size or inception.INPUT_SIZE, None
    if not pixels.half_pixel:
        return "tf1-bilinear", resized, None
    if size is None:
        return "tf2-bilinear", resized, None
    return RESIZE, size, resized


def _scaling(
    pixels: Pixels, scale: Array, shift: Array, remedy: str
) -> tuple[dict[str, Any], bool]:
    """Return divisor and offset, and whether the input is taken as pixels of 0 to 1.

    The range of an input of floating-point numbers is not stated anywhere. Unscaled, it is what
    the usual preprocessing makes; scaled, it is 0..255, unless only 0..1 gives usual values.
    """
    if pixels.is_unscaled and not pixels.is_bytes:
        return {}, False
    is_unit = False
    # Shifts beyond the usual range, such as the mean colours of caffe, are those of bytes.
    is_usual = np.abs(scale).max() <= _MAX_SCALE or np.abs(shift).max() > _MAX_PIXEL
    if not pixels.is_bytes and not is_usual:
        is_unit = max(np.abs(shift).max(), np.abs(scale + shift).max()) <= _MAX_PIXEL
        if not is_unit:
            raise ModelError(
                "expected pixels of 0..255 or 0..1 to become about -1..1, found them multiplied by "
                f"{scale} and shifted by {shift}{remedy}"
            )
    if is_unit:
        scale = scale / 255
    fields = {"divisor": _per_channel(1 / scale, 4), "offset": _per_channel(0.0 - shift, 6)}
    return fields, is_unit


def _per_channel(values: Array, digits: int) -> tuple[float, ...]:
    """Return rounded values, a single one if all channels agree; removes the noise of float32."""
    rounded = tuple(
        round(float(value), digits) + 0.0
        if abs(value) >= 1 or value == 0
        else float(f"{value:.6g}")
        for value in values
    )
    return rounded[:1] if len(set(rounded)) == 1 else rounded
