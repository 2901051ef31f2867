"""The rows that may be among the k nearest of some, found without measuring them all.

A pass in the rows' own precision, which takes a third of the time, bounds every distance from both
sides. Only where the bounds leave open whether a row is among the k nearest, the kernel that every
path shares measures it (`pool3.vectors.distances`): what comes out is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numkong
import numpy as np
import numpy.typing as npt

from pool3.vectors.distances import FloatArray, check_metric, distances
from pool3.vectors.float16 import as_float16

# What rounding to float16 or float32 changes of a number at most: as its share, and of one that is
# nearly 0.
_FLOAT16_SHARE, _FLOAT16_LEAST = 2.0**-11, 2.0**-25
_FLOAT32_SHARE = 2.0**-24

# As many rows as are measured in the time that a first pass takes besides its kernel.
_FEW_ROWS = 128


def nearest(
    query: npt.NDArray[np.float32], rows: npt.NDArray[Any], metric: str, k: int
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Measure the rows that may be among the k nearest.

    Parameters
    ----------
    query
        float32, (d,).
    rows
        float16 or float32, (m, d).
    metric
        One of `pool3.vectors.distances.METRICS`.
    k
        At least 1.

    Returns
    -------
    positions : int64, (n,)
        Ascending; the k nearest rows are among them, and all that are as near as the k-th. Of few
        rows, all.
    distances : float64, (n,)
        Theirs, as `pool3.vectors.distances.distances` has them.

    Raises
    ------
    UsageError
        For another metric.

    Examples
    --------
    >>> rows = np.arange(1000, dtype=np.float16)[:, None]
    >>> nearest(np.array([7.25], np.float32), rows, "euclidean", 1)
    (array([7]), array([0.25]))
    """
    check_metric(metric)
    if len(rows) <= max(k, _FEW_ROWS):
        return np.arange(len(rows)), distances(query, rows, metric)
    low, high = _bounds(query, np.ascontiguousarray(rows), metric)
    # Not the other way round: what overflowed, and is NaN, is near.
    near = np.flatnonzero(~(low > np.partition(high, k - 1)[k - 1]))
    return near, distances(query, rows[near], metric)


def _bounds(
    query: npt.NDArray[np.float32], rows: npt.NDArray[Any], metric: str
) -> tuple[FloatArray, FloatArray]:
    """Bound distances from below and above, ``angular`` ones as chords.

    The query is rounded as the rows are, and by the triangle inequality a distance then changes by
    no more than the query moved (1.01 is for the length of a unit vector that moved). A sum of d
    products in float32 is off by less than d 2^-24 of the sum of their sizes (Higham, Accuracy and
    Stability of Numerical Algorithms, 3.1); that is taken twice, for the lengths that an angle is
    divided by.
    """
    sums = 2.1 * _FLOAT32_SHARE * (len(query) + 16)
    wide = query.astype(np.float64)
    length, moved = float(np.sqrt(wide @ wide)), 0.0
    asked: npt.NDArray[Any] = query
    if metric == "angular":
        # The direction alone counts, and its numbers fit any dtype.
        asked, length = (wide / length).astype(np.float32), 1.0
    if rows.dtype == np.float16:
        asked = as_float16(asked)
        moved = 1.01 * (_FLOAT16_SHARE * length + _FLOAT16_LEAST * len(query) ** 0.5)
    if metric == "dot":
        products = _each(numkong.dot, asked[None, :], rows)
        lengths = np.sqrt(_each(numkong.dot, rows, rows))
        error = (moved + sums * (length + moved)) * lengths
        return -products - error, -products + error
    if metric == "angular":
        found = _each(numkong.angular, asked[None, :], rows)
        low, high = 2 * np.maximum(found - sums, 0.0), 2 * (found + sums)
    else:
        found = _each(numkong.sqeuclidean, asked[None, :], rows)
        low, high = found * (1 - sums), found * (1 + sums)
    return np.sqrt(low) - moved, np.sqrt(high) + moved


def _each(kernel: Callable[..., Any], left: npt.NDArray[Any], rows: npt.NDArray[Any]) -> FloatArray:
    return np.asarray(kernel(left, rows), dtype=np.float64)
