"""The interface of an engine, which runs the frozen graph of one model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Engine(Protocol):
    """Runs one model; several threads may call it at once.

    Attributes
    ----------
    name, precision
        The engine and the precision that really run, of `ENGINES` and `PRECISIONS`.
    picture_shape
        Height and width of the pictures that it takes.
    """

    name: str
    precision: str
    picture_shape: tuple[int, int]

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the features of a batch of pictures.

        Parameters
        ----------
        pictures
            uint8 ``(n, h, w, 3)``, RGB.

        Returns
        -------
        numpy.ndarray
            float32 ``(n, d)``.
        """
