"""Exact distances, from one row-wise kernel that all code paths share.

Smaller is better under every metric: ``angular`` is 1 - cosine, ``euclidean`` is the length of
q - x, ``dot`` is -q.x. Sums are accumulated in float64, and the result of a row does not depend on
neighbouring rows, so that the same two vectors have the same distance on every code path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any

import numkong
import numpy as np
import numpy.typing as npt

from pool3.errors import UsageError
from pool3.vectors.float16 import as_float32

METRICS = ("angular", "euclidean", "dot")

FloatArray = npt.NDArray[np.float64]

# Rows per block: few enough to stay in a core's cache when they are widened.
_BLOCK_ROWS = 128

# Below this, 1 - cosine loses a third of its digits to cancellation.
_CANCELLED = 1e-5


def check_metric(metric: str) -> str:
    """Return `metric` if it is one of `METRICS`, and raise `UsageError` otherwise."""
    if metric not in METRICS:
        raise UsageError(f"metric must be one of {', '.join(METRICS)}; found {metric!r}")
    return metric


def squared_norms(rows: npt.NDArray[Any]) -> FloatArray:
    """Return the squared lengths of rows.

    Parameters
    ----------
    rows
        Any real dtype, (n, d).

    Returns
    -------
    float64, (n,)
    """
    # One dot product per row, summed in float64. A matrix product works on blocks of rows, so that
    # the last bits of a row would depend on neighbouring rows.
    wide = _widened(rows, np.result_type(rows, np.float32))
    if not len(wide):
        return np.zeros(0)
    return np.asarray(numkong.dot(wide, wide), dtype=np.float64)


def unit_rows(rows: npt.NDArray[Any]) -> FloatArray:
    """Return rows divided by their lengths; a row of zeros stays zero.

    Parameters
    ----------
    rows
        Any real dtype, (n, d).

    Returns
    -------
    float64, (n, d)
    """
    lengths = np.sqrt(squared_norms(rows))
    lengths[lengths == 0] = 1.0
    return rows / lengths[:, None]


def distances(query: npt.NDArray[Any], rows: npt.NDArray[Any], metric: str) -> FloatArray:
    """Return the distances of one query to many rows.

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
        Smaller is better. The distance of equal vectors is exactly 0 under ``angular`` and
        ``euclidean``.

    Raises
    ------
    UsageError
        The metric is not supported.

    Examples
    --------
    >>> distances(np.array([1.0, 0.0]), np.array([[2.0, 0.0], [0.0, 3.0]]), "angular")
    array([0., 1.])
    """
    check_metric(metric)
    query = np.asarray(query)
    kind = np.result_type(query, rows, np.float32)  # sums are float64 in any case
    widened = np.ascontiguousarray(query[None, :], dtype=kind)
    blocks = [
        _block_distances(widened, _widened(rows[start : start + _BLOCK_ROWS], kind), metric)
        for start in range(0, len(rows), _BLOCK_ROWS)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _widened(rows: npt.NDArray[Any], kind: np.dtype[Any]) -> npt.NDArray[Any]:
    if rows.dtype != np.float16:
        return np.ascontiguousarray(rows, dtype=kind)
    return as_float32(rows).astype(kind, copy=False)


def _block_distances(query: npt.NDArray[Any], rows: npt.NDArray[Any], metric: str) -> FloatArray:
    if metric == "dot":
        # 0.0 - x instead of -x, so that orthogonal vectors have 0.0 and not -0.0.
        return 0.0 - np.asarray(numkong.dot(query, rows), dtype=np.float64)
    if metric == "euclidean":
        return np.sqrt(np.asarray(numkong.sqeuclidean(query, rows), dtype=np.float64))
    angular = np.array(numkong.angular(query, rows), dtype=np.float64)
    cancelled = angular < _CANCELLED
    if cancelled.any():
        # Half the squared distance of unit vectors is 1 - cosine without cancellation, which would
        # make distances of near-duplicates meaningless.
        angular[cancelled] = squared_norms(unit_rows(rows[cancelled]) - unit_rows(query)) / 2
    return angular


def top_k(values: FloatArray, k: int, id_of: Callable[[int], str]) -> list[tuple[str, int]]:
    """Return the k smallest distances, ties ordered by id.

    Parameters
    ----------
    values
        float64, (m,): distances.
    k
        Most positions to return.
    id_of
        Returns the image_id of a position; called only for rows that may be returned.

    Returns
    -------
    list of (image_id, position)
        Best first; min(k, m) of them.
    """
    order = np.argsort(values, kind="stable")
    smallest = values[order[: k + 1]]
    if (smallest[1:] > smallest[:-1]).all():  # nearly always: there are no ties
        return [(id_of(at), at) for at in order[:k].tolist()]
    return list(islice(ranked(values, id_of), k))


def ranked(values: FloatArray, id_of: Callable[[int], str]) -> Iterator[tuple[str, int]]:
    """Yield ids and positions by ascending distance, ties ordered by id.

    Parameters
    ----------
    values
        float64, (m,): distances.
    id_of
        Returns the image_id of a position; called only as far as the caller iterates.
    """
    numbers: list[float] = values.tolist()
    order = np.argsort(values, kind="stable").tolist()
    for _, ties in groupby(order, key=numbers.__getitem__):
        yield from sorted([(id_of(at), at) for at in ties])
