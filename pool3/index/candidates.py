"""What the trees of several shards found, merged by distance in the reduced space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.distances import FloatArray
from pool3.index.shard_reader import ShardReader

Rows = npt.NDArray[np.int64]


def merged_candidates(
    shards: Sequence[ShardReader],
    numbers: Sequence[int],
    found: Sequence[tuple[Rows, FloatArray]],
    *,
    metric: str,
    most: int,
) -> tuple[Rows, Rows, FloatArray]:
    """Return the nearest of all shards, nearest first, ties in the order of the shards.

    Parameters
    ----------
    shards
        The open ones.
    numbers
        Positions in `shards` of those that were searched.
    found
        What each of them found: rows, and their distances in its tree, ascending.
    metric
        One of `pool3.distances.METRICS`.
    most
        How many are kept.

    Returns
    -------
    shards : int64, (m,)
        Positions in `shards`.
    rows : int64, (m,)
    keys : float64, (m,)
        What they were merged by, ascending.
    """
    if len(found) == 1:
        # It comes in order, and is all there is.
        (rows, near), number = found[0], numbers[0]
        key = _merge_key(shards[number], near[:most], metric)
        return np.full(len(key), number), rows[:most], key
    keys = [
        _merge_key(shards[number], near, metric)
        for number, (_, near) in zip(numbers, found, strict=True)
    ]
    owners = np.repeat(np.array(numbers, dtype=np.int64), [len(near) for near in keys])
    rows = _joined([rows for rows, _ in found], np.int64)
    merged = _joined(keys, np.float64)
    best = np.argsort(merged, kind="stable")[:most]
    return owners[best], rows[best], merged[best]


def _joined(arrays: Sequence[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=dtype)


def _merge_key(shard: ShardReader, near: FloatArray, metric: str) -> FloatArray:
    """Make distances in different trees comparable: ascending is nearest."""
    # Under dot, near^2 = |q|^2 + M^2 - 2 q.x with each shard's own M; the rest orders by q.x.
    return near**2 - shard.max_norm**2 if metric == "dot" else near
