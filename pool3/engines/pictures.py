"""Checks the input of an engine: a batch of pictures of the model's input size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pool3.errors import UsageError


def require_pictures(pictures: npt.NDArray[np.uint8], picture_shape: tuple[int, int]) -> None:
    """Raise `UsageError` unless `pictures` is uint8 ``(n, h, w, 3)`` with the model's h and w."""
    expected = (*picture_shape, 3)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != expected:
        raise UsageError(
            f"expected pictures as uint8 (n, {', '.join(map(str, expected))}), found "
            f"{pictures.dtype} {pictures.shape}; resize them to the model's input"
        )
