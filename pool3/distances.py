"""Distances that a person reads, from one row-wise kernel that every path shares.

Ascending is best under every metric: ``angular`` is 1 - cosine, ``euclidean`` is the length of
q - x, ``dot`` is -q.x. Sums are accumulated in float64, and the result of a row never depends on
the rows beside it, so that the same two vectors are equally far apart on every path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numkong
import numpy as np
import numpy.typing as npt

from pool3.errors import UsageError

METRICS = ("angular", "euclidean", "dot")

FloatArray = npt.NDArray[np.float64]

# Rows that are widened to float64 at a time: few enough to stay in a core's cache.
_BLOCK_ROWS = 64


def check_metric(metric: str) -> str:
    """Return `metric` if it is one of `METRICS`, and raise `UsageError` otherwise."""
    if metric not in METRICS:
        raise UsageError(f"metric must be one of {', '.join(METRICS)}; found {metric!r}")
    return metric


def squared_norms(rows: npt.NDArray[Any]) -> FloatArray:
    """Squared lengths of rows.

    Parameters
    ----------
    rows
        Any real dtype, (n, d).

    Returns
    -------
    float64, (n,)
    """
    # One dot product a row, never a matrix product: that works on blocks of rows, so that the last
    # bits of a row depend on its neighbours.
    norms = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK_ROWS):
        wide = np.ascontiguousarray(rows[start : start + _BLOCK_ROWS], dtype=np.float64)
        norms[start : start + _BLOCK_ROWS] = np.vecdot(wide, wide)
    return norms


def unit_rows(rows: npt.NDArray[Any]) -> FloatArray:
    """Rows divided by their lengths; a row of zeros stays zero.

    Parameters
    ----------
    rows
        Any real dtype, (n, d).

    Returns
    -------
    float64, (n, d)
    """
    wide = np.ascontiguousarray(rows, dtype=np.float64)
    return wide / _lengths(wide)


def _lengths(wide: FloatArray) -> FloatArray:
    """Return the lengths of rows as a column, 1 in the place of 0."""
    norms = np.sqrt(squared_norms(wide))
    return np.asarray(np.where(norms > 0, norms, 1.0)[:, None])


def distances(query: npt.NDArray[Any], rows: npt.NDArray[Any], metric: str) -> FloatArray:
    """Distances of one query to many rows.

    Parameters
    ----------
    query
        Any real dtype, (d,).
    rows
        Any real dtype, (m, d).
    metric
        One of `METRICS`.

    Returns
    -------
    float64, (m,)
        Ascending is best. Equal vectors are exactly 0 apart under ``angular`` and ``euclidean``.

    Raises
    ------
    UsageError
        For another metric.

    Examples
    --------
    >>> distances(np.array([1.0, 0.0]), np.array([[2.0, 0.0], [0.0, 3.0]]), "angular")
    array([0., 1.])
    """
    check_metric(metric)
    wide = np.asarray(query, dtype=np.float64)[None, :]
    query_row = unit_rows(wide) if metric == "angular" else wide
    blocks = [
        _block_distances(query_row, rows[start : start + _BLOCK_ROWS], metric)
        for start in range(0, len(rows), _BLOCK_ROWS)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _widened(rows: npt.NDArray[Any]) -> FloatArray:
    if rows.dtype != np.float16:
        return rows.astype(np.float64, order="C")
    # NumPy's own conversion takes ten times as long where numbers are zero or subnormal, and
    # features after a ReLU have many of these.
    single = numkong.astype(np.ascontiguousarray(rows, dtype=np.float16), "float32")
    return np.asarray(single).astype(np.float64)


def _block_distances(query: FloatArray, rows: npt.NDArray[Any], metric: str) -> FloatArray:
    wide = _widened(rows)  # a copy, which is then worked on in place
    if metric == "dot":
        # 0.0 - x rather than -x, so that orthogonal vectors read 0.0 and not -0.0.
        return np.asarray(0.0 - np.vecdot(wide, query[0]))
    if metric == "angular":
        wide /= _lengths(wide)
    wide -= query
    # Half the squared distance of unit vectors is 1 - cosine, without the cancellation that would
    # drown near-duplicates.
    return squared_norms(wide) / 2 if metric == "angular" else np.sqrt(squared_norms(wide))


def top_k(found: FloatArray, k: int, id_of: Callable[[int], str]) -> list[tuple[str, int]]:
    """Choose the k smallest distances, ties by id.

    Parameters
    ----------
    found
        float64, (m,): distances.
    k
        How many at most.
    id_of
        Gives the image_id of a position in `found`; asked only about rows that may be chosen.

    Returns
    -------
    list of (image_id, position)
        Best first; min(k, m) of them.
    """
    if k < len(found):
        # Every row as near as the k-th, since ids decide which of the equals stay.
        near = np.flatnonzero(found <= np.partition(found, k - 1)[k - 1])
    else:
        near = np.arange(len(found))
    ranked = sorted((float(found[i]), id_of(int(i)), int(i)) for i in near)
    return [(image_id, position) for _, image_id, position in ranked[:k]]


def ranked(found: FloatArray, id_of: Callable[[int], str]) -> Iterator[tuple[str, int]]:
    """Give positions by ascending distance, ties by id, one after the other.

    Parameters
    ----------
    found
        float64, (m,): distances.
    id_of
        Gives the image_id of a position in `found`; asked as far as the caller reads on.
    """
    order, start = np.argsort(found, kind="stable"), 0
    while start < len(order):
        end = start + 1
        while end < len(order) and found[order[end]] == found[order[start]]:
            end += 1
        yield from sorted((id_of(int(at)), int(at)) for at in order[start:end])
        start = end
