"""Exact nearest rows of many queries among the rows of one shard.

A matrix product in float32 bounds every distance from below. Exact distances are computed only for
the rows with the smallest bounds; the bounds of all other rows prove that none of them is nearer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.vectors.distances import FloatArray, check_metric, distances, unit_rows
from pool3.vectors.float16 import as_float32

Rows = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

# Rows of one matrix product, which needs 130 MB for 1000 queries of 2048 numbers.
_BLOCK_ROWS = 4096

# Additional rows to measure, and their number in a second pass for queries whose first pass proved
# too little: hundreds of rows have nearly the distance of the last requested one.
_SPARE_ROWS = (64, 4096)

_ROUNDING = 2.0**-24  # of float32


@dataclass(frozen=True)
class Nearest:
    """The nearest rows of each query.

    Attributes
    ----------
    rows
        int64, (q, m): nearest first, -1 where there is none.
    distances
        float64, (q, m): ascending, infinite where there is none.
    radius
        float64, (q,): all rows nearer than this are included; infinite if all rows are. It is at
        least the last distance, and usually equal to it.
    """

    rows: Rows
    distances: FloatArray
    radius: FloatArray


def exact_nearest(
    queries: Float32Array,
    vectors: npt.NDArray[Any],
    metric: str,
    *,
    most: int,
    own_rows: Rows | None = None,
    live: npt.NDArray[np.bool_] | None = None,
    within: FloatArray | None = None,
) -> Nearest:
    """Return the exact nearest rows of each query.

    Parameters
    ----------
    queries
        float32, (q, d).
    vectors
        float16 or float32, (n, d): stored vectors, for example a memory-mapped shard.
    metric
        One of `pool3.vectors.distances.METRICS`.
    most
        Number of rows per query. Fewer are returned if there are fewer, or if thousands of rows
        have the distance of the last ones to seven digits: these are left out, and `radius` is
        their distance.
    own_rows
        int64, (q,): the row of the query itself, which is excluded; -1 for none.
    live
        bool, (n,): the rows to search; all of them when None.
    within
        float64, (q,): limits of the distance; `radius` is at most this. None for no limit.

    Raises
    ------
    UsageError
        The metric is not supported.

    Examples
    --------
    >>> nearest = exact_nearest(
    ...     np.zeros((1, 1), np.float32), np.array([[3], [1], [2]], np.float16), "euclidean", most=2
    ... )
    >>> nearest.rows.tolist(), nearest.distances.tolist(), nearest.radius.tolist()
    ([[1, 2]], [[1.0, 2.0]], [2.0])
    """
    check_metric(metric)
    own = np.full(len(queries), -1, dtype=np.int64) if own_rows is None else own_rows
    counted = np.ones(len(vectors), dtype=np.bool_) if live is None else live
    reach = np.full(len(queries), np.inf) if within is None else within
    nearest = Nearest(
        np.full((len(queries), most), -1, dtype=np.int64),
        np.full((len(queries), most), np.inf),
        reach.copy(),
    )
    unproven = np.arange(len(queries))
    for spare in _SPARE_ROWS if len(vectors) else ():
        bounds = _Bounds(queries[unproven], vectors, metric)
        rows, beyond = _smallest_bounds(
            bounds, vectors, most + spare, own[unproven], counted, reach[unproven]
        )
        remaining = [
            query
            for query, candidates, bound in zip(unproven, rows, beyond, strict=True)
            if not _measure(
                nearest, int(query), queries, vectors, metric, candidates[candidates >= 0], bound
            )
        ]
        unproven = np.array(remaining, dtype=np.int64)
        if not remaining:
            break
    return nearest


def _measure(
    nearest: Nearest,
    query: int,
    queries: Float32Array,
    vectors: npt.NDArray[Any],
    metric: str,
    candidates: Rows,
    beyond: float,
) -> bool:
    """Measure the candidates of a query, and record the proven ones in `nearest`.

    All other rows have at least the distance `beyond`.

    Returns
    -------
    bool
        Whether as many rows as requested are proven.
    """
    most = nearest.rows.shape[1]
    candidates = np.sort(candidates)
    measured = distances(queries[query], vectors[candidates], metric)
    order = np.argsort(measured, kind="stable")[:most]
    rows, smallest = candidates[order], measured[order]
    all_measured = len(candidates) <= most
    radius = beyond if all_measured else min(beyond, float(smallest[-1]))
    proven = int(np.searchsorted(smallest, radius, side="right"))
    nearest.rows[query], nearest.distances[query], nearest.radius[query] = -1, np.inf, radius
    nearest.rows[query, :proven] = rows[:proven]
    nearest.distances[query, :proven] = smallest[:proven]
    return bool(all_measured or proven == most)


def _as_float32(rows: npt.NDArray[Any]) -> Float32Array:
    """Return stored rows as float32, without loss."""
    if rows.dtype != np.float16:
        return np.ascontiguousarray(rows, dtype=np.float32)
    return as_float32(rows)


class _Bounds:
    """Lower bounds of the distances from queries to blocks of rows, by one product per block.

    Under ``euclidean`` and ``angular`` they bound the squared distance of the prepared vectors,
    |q|^2 + |x|^2 - 2 q.x, under ``dot`` they bound -q.x. The error of a sum of n products in
    float32 is less than n 2^-24 times the sum of their absolute values (Higham, Accuracy and
    Stability of Numerical Algorithms, 3.1), which is at most 2 (|q|^2 + |x|^2) or |q| |x|.
    Additional columns of the queries add the squared lengths, each reduced by that error.
    """

    def __init__(self, queries: Float32Array, vectors: npt.NDArray[Any], metric: str) -> None:
        self._metric = metric
        self._scale = 1.0 if metric == "angular" else _power_of_two(queries, vectors)
        self._centre = np.zeros(queries.shape[1], dtype=np.float32)
        if metric != "dot":
            # Centring preserves distances, and reduces the lengths that the error depends on.
            self._centre = self._prepared(vectors[:_BLOCK_ROWS]).mean(axis=0)
        self._error = 2.1 * _ROUNDING * (queries.shape[1] + 16)
        prepared = self._prepared(queries)
        lengths = self._squares(prepared)
        if metric == "dot":
            columns = [-prepared, -np.sqrt(lengths)[:, None]]
        else:
            # Angular rows are rounded after their division.
            rounded = 16 * _ROUNDING if metric == "angular" else 0.0
            far = lengths * (1 - self._error) - rounded
            columns = [-2 * prepared, np.ones((len(queries), 1)), far[:, None]]
        self._queries = _side_by_side(columns)

    def of(self, rows: npt.NDArray[Any]) -> Float32Array:
        """Return the bounds of stored rows, float32, (q, n)."""
        prepared = self._prepared(rows)
        lengths = self._squares(prepared)
        if self._metric == "dot":
            columns = [prepared, (self._error * np.sqrt(lengths))[:, None]]
        else:
            columns = [prepared, (lengths * (1 - self._error))[:, None], np.ones((len(rows), 1))]
        return np.asarray(self._queries @ _side_by_side(columns).T)

    def as_distances(self, bounds: FloatArray) -> FloatArray:
        """Return bounds as distances, float64."""
        if self._metric == "dot":
            return bounds / self._scale**2
        squares = np.maximum(bounds, 0.0)
        return squares / 2 if self._metric == "angular" else np.sqrt(squares) / self._scale

    def of_distances(self, far: FloatArray) -> FloatArray:
        """Return distances as bounds, float64: the inverse of `as_distances`."""
        if self._metric == "dot":
            return far * self._scale**2
        return far * 2 if self._metric == "angular" else (far * self._scale) ** 2

    def _prepared(self, rows: npt.NDArray[Any]) -> Float32Array:
        wide = _as_float32(rows)
        if self._metric == "angular":
            return np.asarray(unit_rows(wide).astype(np.float32) - self._centre)
        return np.asarray(wide * np.float32(self._scale) - self._centre)

    @staticmethod
    def _squares(rows: Float32Array) -> FloatArray:
        return np.asarray(np.vecdot(rows, rows), dtype=np.float64)


def _side_by_side(columns: list[npt.NDArray[Any]]) -> Float32Array:
    # Each array is converted by itself: one of float64 would widen all of them.
    return np.hstack([column.astype(np.float32, copy=False) for column in columns])


def _power_of_two(queries: Float32Array, vectors: npt.NDArray[Any]) -> float:
    """Return a scale that brings all numbers close to 1, so that their squares fit float32."""
    largest = float(np.abs(queries).max(initial=0.0))
    if vectors.dtype != np.float16:
        blocks = range(0, len(vectors), _BLOCK_ROWS)
        largest = max(largest, *(float(np.abs(vectors[i : i + _BLOCK_ROWS]).max()) for i in blocks))
    # At most 2^126, which float32 can represent.
    return float(2.0 ** -max(-126, np.frexp(largest)[1]))


def _smallest_bounds(
    bounds: _Bounds,
    vectors: npt.NDArray[Any],
    width: int,
    own_rows: Rows,
    live: npt.NDArray[np.bool_],
    reach: FloatArray,
) -> tuple[Rows, FloatArray]:
    """Return the rows with the smallest bounds, (q, width), and a bound of all other rows.

    Rows beyond `reach` are left out.
    """
    limit = np.nextafter(bounds.of_distances(reach).astype(np.float32), np.float32(np.inf))
    smallest = np.full((len(own_rows), width), np.inf, dtype=np.float32)
    rows = np.full((len(own_rows), width), -1, dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = bounds.of(vectors[start : start + _BLOCK_ROWS])
        block[:, ~live[start : start + _BLOCK_ROWS]] = np.inf
        own = np.flatnonzero((own_rows >= start) & (own_rows < start + block.shape[1]))
        block[own, own_rows[own] - start] = np.inf
        block[block > limit[:, None]] = np.inf
        both = np.concatenate([smallest, block], axis=1)
        best = np.argpartition(both, width - 1, axis=1)[:, :width]
        smallest = np.take_along_axis(both, best, axis=1)
        earlier = np.take_along_axis(rows, np.minimum(best, width - 1), axis=1)
        rows = np.where(best < width, earlier, best - width + start)
        rows[np.isinf(smallest)] = -1
    beyond = bounds.as_distances(smallest.max(axis=1).astype(np.float64))
    return rows, np.minimum(beyond, reach)
