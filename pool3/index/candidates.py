"""What the trees of several shards found, merged by distance in the reduced space."""

from __future__ import annotations

from collections.abc import Sequence

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
    parts = [
        (np.full(len(rows), number), rows, _merge_key(shards[number], near, metric))
        for number, (rows, near) in zip(numbers, found, strict=True)
    ]
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    if len(parts) == 1:
        owners, rows, keys = parts[0]
        return owners[:most], rows[:most], keys[:most]
    owners, rows, keys = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    best = np.argsort(keys, kind="stable")[:most]
    return owners[best], rows[best], keys[best]


def _merge_key(shard: ShardReader, near: FloatArray, metric: str) -> FloatArray:
    """Make distances in different trees comparable: ascending is nearest."""
    # Under dot, near^2 = |q|^2 + M^2 - 2 q.x with each shard's own M; the rest orders by q.x.
    return near**2 - shard.max_norm**2 if metric == "dot" else near
