"""The pixels of a picture on their way to the first convolution, as a function of the input.

A model may scale, shift, reorder, cast or resize its input before the network. `Pixels` describes
the result of such steps exactly, without running them: each channel is ``scale * input + shift`` of
one channel of the input. A step that it cannot describe is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pixels:
    """Pixels as a function of the input of a model.

    Parameters
    ----------
    axes
        The axes in order: ``n`` pictures, ``h`` rows, ``w`` columns, ``c`` channels.
    source
        The channel of the input that each channel is made of.
    scale, shift
        What each channel is multiplied by and what is added then, float64.
    size
        Height and width of the input; None if any size is accepted.
    resized
        Height and width that the model resizes its input to; None if it does not.
    half_pixel
        Whether that resizing has half-pixel centres.
    is_bytes
        Whether the input is certainly pixels of 0 to 255.
    """

    axes: str = "nhwc"
    source: tuple[int, ...] = (0, 1, 2)
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)
    size: int | None = None
    resized: int | None = None
    half_pixel: bool = True
    is_bytes: bool = False

    @property
    def is_unscaled(self) -> bool:
        """Return whether all values are those of the input."""
        return set(self.scale) == {1.0} and set(self.shift) == {0.0}

    def multiplied(self, constant: Any) -> Pixels:
        """Return the product with a constant, one number or one a channel."""
        factor = self._by_channel(constant)
        return self._affine(factor * self.scale, factor * self.shift)

    def divided(self, constant: Any) -> Pixels:
        """Return the quotient by a constant."""
        divisor = self._by_channel(constant)
        if not np.all(divisor):
            raise ModelError("it divides by 0")
        return self._affine(np.array(self.scale) / divisor, np.array(self.shift) / divisor)

    def added(self, constant: Any) -> Pixels:
        """Return the sum with a constant."""
        return self._affine(np.array(self.scale), self._by_channel(constant) + self.shift)

    def _affine(self, scale: Vector, shift: Vector) -> Pixels:
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()) or not scale.all():
            raise ModelError("it multiplies by 0, infinity or NaN")
        return replace(self, scale=tuple(scale.tolist()), shift=tuple(shift.tolist()))

    def _by_channel(self, constant: Any) -> Vector:
        """Return one number a channel from a constant that is broadcast to the pixels."""
        try:
            values = np.asarray(constant, np.float64)
        except (TypeError, ValueError) as error:
            raise ModelError(f"it computes with {constant!r:.60}") from error
        channels, rank = len(self.source), len(self.axes)
        expected = [channels if axis == "c" else 1 for axis in self.axes]
        shape = (1,) * (rank - values.ndim) + values.shape
        if len(shape) > rank or any(
            size not in (1, most) for size, most in zip(shape, expected, strict=True)
        ):
            raise ModelError(f"it computes with a constant of shape {values.shape}")
        return np.broadcast_to(values.reshape(-1), (channels,)).copy()

    def transposed(self, order: Sequence[int]) -> Pixels:
        """Return the axes in another order."""
        if sorted(order) != list(range(len(self.axes))):
            raise ModelError(f"it permutes axes by {list(order)}")
        return replace(self, axes="".join(self.axes[axis] for axis in order))

    def axis(self, number: int) -> str:
        """Return the name of an axis; negative numbers count from the end."""
        if not -len(self.axes) <= number < len(self.axes):
            raise ModelError(f"it uses axis {number} of {len(self.axes)}")
        return self.axes[number]

    def taken(self, indices: Sequence[int]) -> Pixels:
        """Return some of the channels in another order."""
        count = len(self.source)
        if not indices or not all(-count <= index < count for index in indices):
            raise ModelError(f"it takes channels {list(indices)} of {count}")
        return replace(
            self,
            source=tuple(self.source[index] for index in indices),
            scale=tuple(self.scale[index] for index in indices),
            shift=tuple(self.shift[index] for index in indices),
        )

    def sliced(self, items: Sequence[slice | int | None]) -> Pixels:
        """Return the pixels ``[items]``; only the channels can be sliced."""
        result = self
        for axis, item in zip(self.axes, items, strict=False):
            if item == slice(None) or item == slice(None, None, 1):
                continue
            if axis != "c" or item is None:
                raise ModelError("it crops or mirrors pictures, or adds an axis")
            channels = list(range(len(self.source)))
            if isinstance(item, slice):
                result = result.taken(channels[item])
            elif item in range(-len(channels), len(channels)):
                result = replace(result.taken([item]), axes=self.axes.replace("c", ""))
            else:
                raise ModelError(f"it takes channel {item} of {len(channels)}")
        if len(items) > len(self.axes):
            raise ModelError("it slices more axes than there are")
        return result

    def reversed(self, axes: Sequence[int]) -> Pixels:
        """Return the pixels with the order of the channels reversed."""
        result = self
        for axis in axes:
            if self.axis(axis) != "c":
                raise ModelError("it mirrors pictures")
            result = result.taken(range(len(self.source))[::-1])
        return result

    def resized_to(self, height: int, width: int, *, half_pixel: bool = True) -> Pixels:
        """Return the pixels resized bilinearly, without antialiasing."""
        if self.axes != "nhwc" or height != width:
            raise ModelError(f"it resizes to {height} by {width}, not to a square")
        current = self.size if self.resized is None else self.resized
        if current == height and (half_pixel or self.resized is None):
            return self
        if self.resized is not None:
            raise ModelError("it resizes twice")
        return replace(self, resized=height, half_pixel=half_pixel)

    def expanded(self) -> Pixels:
        """Return pixels of one channel with an axis of channels at the end."""
        if "c" in self.axes:
            raise ModelError("it adds an axis")
        return replace(self, axes=self.axes + "c")


def joined(several: Sequence[Pixels]) -> Pixels:
    """Return channels that are concatenated.

    Raises
    ------
    ModelError
        If they differ in more than their channels.
    """
    first = several[0]
    same = [
        replace(first, source=item.source, scale=item.scale, shift=item.shift) for item in several
    ]
    if list(several) != same or "c" not in first.axes:
        raise ModelError("it joins pixels that were prepared in different ways")
    return replace(
        first,
        source=tuple(source for item in several for source in item.source),
        scale=tuple(scale for item in several for scale in item.scale),
        shift=tuple(shift for item in several for shift in item.shift),
    )


def stacked(several: Sequence[Pixels]) -> Pixels:
    """Return single channels that are stacked as the last axis; raises as `joined`."""
    return joined([item.expanded() for item in several])
