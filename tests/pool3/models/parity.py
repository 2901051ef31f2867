"""How much features may differ that should be equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
LIMIT = 0.01


def centred_difference(expected: Features, actual: Features) -> npt.NDArray[np.float64]:
    """Return |f - g| / |f - mean| for the first pictures, as many as `actual` has."""
    spread = np.linalg.norm(expected - expected.mean(axis=0, dtype=np.float64), axis=1)
    count = len(actual)
    return np.linalg.norm(expected[:count] - actual, axis=1) / spread[:count]
