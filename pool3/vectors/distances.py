"""Distances that a person reads, from one row-wise kernel that every path shares.

Ascending is best under every metric: ``angular`` is 1 - cosine, ``euclidean`` is the length of
q - x, ``dot`` is -q.x. Sums are accumulated in float64, and the result of a row never depends on
the rows beside it, so that the same two vectors are equally far apart on every path.
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

# Rows that are widened at a time: few enough to stay in a core's cache.
_BLOCK_ROWS = 128

# Below this, 1 - cosine has lost a third of its digits to cancellation.
_CANCELLED = 1e-5


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
    # One dot product a row, summed in float64, never a matrix product: that works on blocks of
    # rows, so that the last bits of a row depend on its neighbours.
    wide = _widened(rows, np.result_type(rows, np.float32))
    if not len(wide):
        return np.zeros(0)
    return np.asarray(numkong.dot(wide, wide), dtype=np.float64)


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
    lengths = np.sqrt(squared_norms(rows))
    lengths[lengths == 0] = 1.0
    return rows / lengths[:, None]


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
    query = np.asarray(query)
    kind = np.result_type(query, rows, np.float32)  # sums are float64 whatever it is
    asked = np.ascontiguousarray(query[None, :], dtype=kind)
    blocks = [
        _block_distances(asked, _widened(rows[start : start + _BLOCK_ROWS], kind), metric)
        for start in range(0, len(rows), _BLOCK_ROWS)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _widened(rows: npt.NDArray[Any], kind: np.dtype[Any]) -> npt.NDArray[Any]:
    if rows.dtype != np.float16:
        return np.ascontiguousarray(rows, dtype=kind)
    return as_float32(rows).astype(kind, copy=False)


def _block_distances(query: npt.NDArray[Any], rows: npt.NDArray[Any], metric: str) -> FloatArray:
    if metric == "dot":
        # 0.0 - x rather than -x, so that orthogonal vectors read 0.0 and not -0.0.
        return 0.0 - np.asarray(numkong.dot(query, rows), dtype=np.float64)
    if metric == "euclidean":
        return np.sqrt(np.asarray(numkong.sqeuclidean(query, rows), dtype=np.float64))
    found = np.array(numkong.angular(query, rows), dtype=np.float64)
    near = found < _CANCELLED
    if near.any():
        # Half the squared distance of unit vectors is 1 - cosine, without the cancellation that
        # would drown near-duplicates.
        found[near] = squared_norms(unit_rows(rows[near]) - unit_rows(query)) / 2
    return found


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
    order = np.argsort(found, kind="stable")
    near = found[order[: k + 1]]
    if (near[1:] > near[:-1]).all():  # as nearly always: no id decides anything
        return [(id_of(at), at) for at in order[:k].tolist()]
    return list(islice(ranked(found, id_of), k))


def ranked(found: FloatArray, id_of: Callable[[int], str]) -> Iterator[tuple[str, int]]:
    """Give positions by ascending distance, ties by id, one after the other.

    Parameters
    ----------
    found
        float64, (m,): distances.
    id_of
        Gives the image_id of a position in `found`; asked as far as the caller reads on.
    """
    measured: list[float] = found.tolist()
    order = np.argsort(found, kind="stable").tolist()
    for _, equals in groupby(order, key=measured.__getitem__):
        yield from sorted([(id_of(at), at) for at in equals])
