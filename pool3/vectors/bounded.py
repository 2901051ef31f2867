"""Finds the rows that may be among the k nearest without computing all distances exactly.

A pass in the rows' own precision, which takes a third of the time, bounds every distance from below
and above. Exact distances (`pool3.vectors.distances`) are computed only for rows that may be among
the k nearest according to the bounds, so the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numkong
import numpy as np
import numpy.typing as npt

from pool3.vectors.distances import FloatArray, check_metric, distances
from pool3.vectors.float16 import as_float16

# Largest rounding errors of float16 and float32: relative, and absolute for numbers close to 0.
_FLOAT16_SHARE, _FLOAT16_LEAST = 2.0**-11, 2.0**-25
_FLOAT32_SHARE = 2.0**-24

# The overhead of the first pass is about the time of this many exact distances.
_FEW_ROWS = 128


def nearest(
    query: npt.NDArray[np.float32], rows: npt.NDArray[Any], metric: str, k: int
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the rows that may be among the k nearest, with their exact distances.

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
        Ascending. They include the k nearest rows and all rows with the distance of the k-th; for
        few rows, they are all rows.
    distances : float64, (n,)
        Their distances, as from `pool3.vectors.distances.distances`.

    Raises
    ------
    UsageError
        The metric is not supported.

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
    # Negated, so that rows whose bounds overflowed to NaN are candidates.
    candidates = np.flatnonzero(~(low > np.partition(high, k - 1)[k - 1]))
    return candidates, distances(query, rows[candidates], metric)


def _bounds(
    query: npt.NDArray[np.float32], rows: npt.NDArray[Any], metric: str
) -> tuple[FloatArray, FloatArray]:
    """Bound distances from below and above, ``angular`` ones as chords.

    The query is rounded to the type of the rows. By the triangle inequality, a distance changes by
    at most the distance that the query moved (1.01 accounts for the length of a rounded unit
    vector). The error of a sum of d products in float32 is less than d 2^-24 times the sum of their
    absolute values (Higham, Accuracy and Stability of Numerical Algorithms, 3.1); it is doubled for
    the lengths that an angle is divided by.
    """
    sums = 2.1 * _FLOAT32_SHARE * (len(query) + 16)
    wide = query.astype(np.float64)
    length, moved = float(np.sqrt(wide @ wide)), 0.0
    rounded: npt.NDArray[Any] = query
    if metric == "angular":
        # Only the direction matters, and its numbers fit any dtype.
        rounded, length = (wide / length).astype(np.float32), 1.0
    if rows.dtype == np.float16:
        rounded = as_float16(rounded)
        moved = 1.01 * (_FLOAT16_SHARE * length + _FLOAT16_LEAST * len(query) ** 0.5)
    if metric == "dot":
        products = _each(numkong.dot, rounded[None, :], rows)
        lengths = np.sqrt(_each(numkong.dot, rows, rows))
        error = (moved + sums * (length + moved)) * lengths
        return -products - error, -products + error
    if metric == "angular":
        angular = _each(numkong.angular, rounded[None, :], rows)
        low, high = 2 * np.maximum(angular - sums, 0.0), 2 * (angular + sums)
    else:
        squares = _each(numkong.sqeuclidean, rounded[None, :], rows)
        low, high = squares * (1 - sums), squares * (1 + sums)
    return np.sqrt(low) - moved, np.sqrt(high) + moved


def _each(kernel: Callable[..., Any], left: npt.NDArray[Any], rows: npt.NDArray[Any]) -> FloatArray:
    return np.asarray(kernel(left, rows), dtype=np.float64)
