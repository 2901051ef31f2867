"""What the trees of several shards found, merged by distance in the reduced space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.index.shards.reader import ShardReader
from pool3.vectors.distances import FloatArray, ranked, top_k

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
        One of `pool3.vectors.distances.METRICS`.
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


@dataclass(frozen=True)
class RankedRows:
    """Rows with their exact distances.

    Attributes
    ----------
    shards, rows
        int64, (m,): number of the shard, and row there.
    distances
        float64, (m,).
    """

    shards: Rows
    rows: Rows
    distances: FloatArray

    @classmethod
    def joined(cls, parts: Sequence[RankedRows]) -> RankedRows:
        """Return several as one."""
        if len(parts) == 1:
            return parts[0]
        nothing = np.zeros(0, dtype=np.int64)
        return cls(
            np.concatenate([nothing, *(part.shards for part in parts)]),
            np.concatenate([nothing, *(part.rows for part in parts)]),
            np.concatenate([np.zeros(0), *(part.distances for part in parts)]),
        )

    def best(
        self, k: int, id_of: Callable[[int], str], values: Sequence[Rows] | None
    ) -> list[tuple[str, int]]:
        """Choose the k nearest, ties by id.

        Parameters
        ----------
        k
            How many at most.
        id_of
            Gives the image_id of a position.
        values
            For each shard int64, (rows,): of rows with the same number, -1 aside, only the
            nearest is chosen. None where all may be.

        Returns
        -------
        list of (image_id, position)
            Best first.
        """
        if values is None:
            return top_k(self.distances, k, id_of)
        seen: set[int] = set()
        chosen: list[tuple[str, int]] = []
        for image_id, at in ranked(self.distances, id_of):
            if len(chosen) == k:
                break
            value = int(values[self.shards[at]][self.rows[at]])
            if value < 0 or value not in seen:
                seen.add(value)
                chosen.append((image_id, at))
        return chosen
