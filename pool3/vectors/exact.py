"""The exact nearest rows of many queries among the rows of one shard.

A matrix product in float32 bounds every distance from below. Only the rows with the smallest bounds
are measured by the kernel that every path shares, and the bounds of all others prove that none of
them lies nearer.
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

# Rows that one matrix product takes: 1000 queries and 2048 numbers need 130 MB with it.
_BLOCK_ROWS = 4096

# How many more rows than wanted are measured, and how many where that proved too little: where
# hundreds of rows are as far as the last wanted one, nearly to the bit.
_SPARE_ROWS = (64, 4096)

_ROUNDING = 2.0**-24  # of float32


@dataclass(frozen=True)
class Nearest:
    """The nearest rows of each query.

    Attributes
    ----------
    rows
        int64, (q, m): best first, -1 where there is none.
    distances
        float64, (q, m): ascending, infinite where there is none.
    radius
        float64, (q,): each row that is nearer than this is among them, infinite where they are all
        rows there are. At least the last distance, and mostly that.
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
    """Find the nearest rows of each query, exactly.

    Parameters
    ----------
    queries
        float32, (q, d).
    vectors
        float16 or float32, (n, d): stored vectors, for instance a memory-mapped shard's.
    metric
        One of `pool3.vectors.distances.METRICS`.
    most
        How many rows are wanted for each query. Fewer come back where there are fewer, or where
        thousands of rows lie as far as the last ones, to seven digits: these are left out then,
        and `radius` says so.
    own_rows
        int64, (q,): a row that the query itself stands in, which does not count; -1 for none.
    live
        bool, (n,): the rows that count; all of them when None.
    within
        float64, (q,): distances beyond which no row is wanted; `radius` is no larger. None for no
        limit.

    Raises
    ------
    UsageError
        For another metric.

    Examples
    --------
    >>> found = exact_nearest(
    ...     np.zeros((1, 1), np.float32), np.array([[3], [1], [2]], np.float16), "euclidean", most=2
    ... )
    >>> found.rows.tolist(), found.distances.tolist(), found.radius.tolist()
    ([[1, 2]], [[1.0, 2.0]], [2.0])
    """
    check_metric(metric)
    own = np.full(len(queries), -1, dtype=np.int64) if own_rows is None else own_rows
    counted = np.ones(len(vectors), dtype=np.bool_) if live is None else live
    reach = np.full(len(queries), np.inf) if within is None else within
    found = Nearest(
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
        left = [
            query
            for query, near, least in zip(unproven, rows, beyond, strict=True)
            if not _measure(found, int(query), queries, vectors, metric, near[near >= 0], least)
        ]
        unproven = np.array(left, dtype=np.int64)
        if not left:
            break
    return found


def _measure(
    found: Nearest,
    query: int,
    queries: Float32Array,
    vectors: npt.NDArray[Any],
    metric: str,
    near: Rows,
    beyond: float,
) -> bool:
    """Measure the rows that may be nearest, and note what is proven; False where that is less.

    All other rows are at least `beyond` away.
    """
    most = found.rows.shape[1]
    near = np.sort(near)
    measured = distances(queries[query], vectors[near], metric)
    order = np.argsort(measured, kind="stable")[:most]
    rows, nearest = near[order], measured[order]
    seen_all = len(near) <= most
    radius = beyond if seen_all else min(beyond, float(nearest[-1]))
    kept = int(np.searchsorted(nearest, radius, side="right"))
    found.rows[query], found.distances[query], found.radius[query] = -1, np.inf, radius
    found.rows[query, :kept], found.distances[query, :kept] = rows[:kept], nearest[:kept]
    return bool(seen_all or kept == most)


def _as_float32(rows: npt.NDArray[Any]) -> Float32Array:
    """Return stored rows as float32, which loses nothing."""
    if rows.dtype != np.float16:
        return np.ascontiguousarray(rows, dtype=np.float32)
    return as_float32(rows)


class _Bounds:
    """Lower bounds of the distances from queries to blocks of rows, by one product for each block.

    Under ``euclidean`` and ``angular`` a bound is of the squared distance between what `_prepared`
    makes of both, |q|^2 + |x|^2 - 2 q.x, under ``dot`` of -q.x. A sum of n products in float32 is
    off by less than n 2^-24 of the sum of their sizes (Higham, Accuracy and Stability of Numerical
    Algorithms, 3.1), which is at most 2 (|q|^2 + |x|^2) or |q| |x|. The queries carry the columns
    that add the lengths, each reduced by that error.
    """

    def __init__(self, queries: Float32Array, vectors: npt.NDArray[Any], metric: str) -> None:
        self._metric = metric
        self._scale = 1.0 if metric == "angular" else _power_of_two(queries, vectors)
        self._centre = np.zeros(queries.shape[1], dtype=np.float32)
        if metric != "dot":
            # Distances do not change with it, and the lengths that the error grows with shrink.
            self._centre = self._prepared(vectors[:_BLOCK_ROWS]).mean(axis=0)
        self._error = 2.1 * _ROUNDING * (queries.shape[1] + 16)
        prepared = self._prepared(queries)
        lengths = self._squares(prepared)
        if metric == "dot":
            columns = [-prepared, -np.sqrt(lengths)[:, None]]
        else:
            # Angular rows were rounded after their division.
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
        """Return bounds as distances that a person reads, float64."""
        if self._metric == "dot":
            return bounds / self._scale**2
        squares = np.maximum(bounds, 0.0)
        return squares / 2 if self._metric == "angular" else np.sqrt(squares) / self._scale

    def of_distances(self, far: FloatArray) -> FloatArray:
        """Return what `as_distances` makes distances of, float64."""
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
    # Each by itself: one column of float64 would widen them all.
    return np.hstack([column.astype(np.float32, copy=False) for column in columns])


def _power_of_two(queries: Float32Array, vectors: npt.NDArray[Any]) -> float:
    """Return what brings all numbers near 1, so that their squares stay within float32."""
    largest = float(np.abs(queries).max(initial=0.0))
    if vectors.dtype != np.float16:
        blocks = range(0, len(vectors), _BLOCK_ROWS)
        largest = max(largest, *(float(np.abs(vectors[i : i + _BLOCK_ROWS]).max()) for i in blocks))
    # At most 2^126, which float32 still holds.
    return float(2.0 ** -max(-126, np.frexp(largest)[1]))


def _smallest_bounds(
    bounds: _Bounds,
    vectors: npt.NDArray[Any],
    width: int,
    own_rows: Rows,
    live: npt.NDArray[np.bool_],
    reach: FloatArray,
) -> tuple[Rows, FloatArray]:
    """Return the rows with the smallest bounds, (q, width), and how far all others are at least.

    Rows beyond `reach` are left out.
    """
    limit = np.nextafter(bounds.of_distances(reach).astype(np.float32), np.float32(np.inf))
    kept = np.full((len(own_rows), width), np.inf, dtype=np.float32)
    rows = np.full((len(own_rows), width), -1, dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = bounds.of(vectors[start : start + _BLOCK_ROWS])
        block[:, ~live[start : start + _BLOCK_ROWS]] = np.inf
        own = np.flatnonzero((own_rows >= start) & (own_rows < start + block.shape[1]))
        block[own, own_rows[own] - start] = np.inf
        block[block > limit[:, None]] = np.inf
        both = np.concatenate([kept, block], axis=1)
        best = np.argpartition(both, width - 1, axis=1)[:, :width]
        kept = np.take_along_axis(both, best, axis=1)
        older = np.take_along_axis(rows, np.minimum(best, width - 1), axis=1)
        rows = np.where(best < width, older, best - width + start)
        rows[np.isinf(kept)] = -1
    beyond = bounds.as_distances(kept.max(axis=1).astype(np.float64))
    return rows, np.minimum(beyond, reach)
