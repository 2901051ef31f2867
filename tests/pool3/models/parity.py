"""How far apart features may lie that should be the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
LIMIT = 0.01


def centred_difference(expected: Features, found: Features) -> npt.NDArray[np.float64]:
    """Give |f - g| / |f - mean| for each picture found, the first ones of those expected."""
    spread = np.linalg.norm(expected - expected.mean(axis=0, dtype=np.float64), axis=1)
    count = len(found)
    return np.linalg.norm(expected[:count] - found, axis=1) / spread[:count]
