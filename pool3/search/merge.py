"""Merges candidates of several shards by reduced distance, and ranks them by exact distance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.index.reduction.tree_space import merge_keys
from pool3.vectors.distances import FloatArray, ranked, top_k

Rows = npt.NDArray[np.int64]


def merge_candidates(
    shards: Sequence[int],
    candidates: Sequence[tuple[Rows, FloatArray]],
    *,
    metric: str,
    max_norms: Sequence[float],
    limit: int,
) -> tuple[Rows, Rows, FloatArray]:
    """Return the nearest candidates of all shards, nearest first, ties in the order of the shards.

    Parameters
    ----------
    shards
        Numbers of the shards that were searched.
    candidates
        For each of them rows, int64, and their distances in its tree, float64, ascending.
    metric
        One of `pool3.vectors.distances.METRICS`.
    max_norms
        M of each of them (`pool3.index.reduction.tree_space.merge_keys`).
    limit
        How many are returned at most.

    Returns
    -------
    shards : int64, (m,)
    rows : int64, (m,)
    keys : float64, (m,)
        The keys that they were merged by, ascending.
    """
    keys = [
        merge_keys(tree_distances, metric=metric, max_norm=max_norm)
        for (_, tree_distances), max_norm in zip(candidates, max_norms, strict=True)
    ]
    if len(candidates) == 1:
        # The candidates of a single shard are in order already.
        merged = keys[0][:limit]
        return np.full(len(merged), shards[0]), candidates[0][0][:limit], merged
    owners = np.repeat(np.array(shards, dtype=np.int64), [len(key) for key in keys])
    rows = _concatenated([rows for rows, _ in candidates], np.int64)
    merged = _concatenated(keys, np.float64)
    best = np.argsort(merged, kind="stable")[:limit]
    return owners[best], rows[best], merged[best]


def _concatenated(arrays: Sequence[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=dtype)


@dataclass(frozen=True)
class RankedRows:
    """Rows with their exact distances.

    Attributes
    ----------
    shards, rows
        int64, (m,): number of the shard, and row in it.
    distances
        float64, (m,).
    """

    shards: Rows
    rows: Rows
    distances: FloatArray

    @classmethod
    def concatenated(cls, several: Sequence[RankedRows]) -> RankedRows:
        """Return the rows of several as one."""
        if len(several) == 1:
            return several[0]
        empty = np.zeros(0, dtype=np.int64)
        return cls(
            np.concatenate([empty, *(each.shards for each in several)]),
            np.concatenate([empty, *(each.rows for each in several)]),
            np.concatenate([np.zeros(0), *(each.distances for each in several)]),
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
            For each shard int64, (rows,): of the rows with the same number only the nearest is
            chosen, except for -1, which any number of rows may have. None if all rows may be.

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
