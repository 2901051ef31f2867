"""Searches a group of an index's shards, and merges the answers of all groups.

This is for a cluster, where no machine needs to open the whole index. The merged answer is the same
as that of `pool3.search.fan_out`, however the shards are grouped.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pool3.index.format.manifest import Manifest
from pool3.index.recall.effort import Effort
from pool3.index.snapshots.snapshot import Snapshot
from pool3.search.shard_set import Query, Rows, ShardSet
from pool3.vectors.distances import FloatArray, top_k


@dataclass(frozen=True)
class GroupAnswer:
    """The answer of one group of shards to one query.

    Attributes
    ----------
    keys
        float64, (m,), ascending: merge key of each candidate.
    positions
        int32, (w,): positions of the candidates that may be among the k nearest of the whole index.
    distances
        float64, (w,): exact distances of these candidates.
    ids
        Their w image_ids.
    """

    keys: FloatArray
    positions: npt.NDArray[np.int32]
    distances: FloatArray
    ids: list[str]


def shard_groups(manifest: Manifest, max_bytes: int) -> list[list[int]]:
    """Group shards, in order; each group has at most `max_bytes` of files, or one larger shard.

    Returns
    -------
    list of list of int
        Numbers of the shards that have live rows; at least one group.
    """
    groups: list[list[int]] = [[]]
    n_bytes = 0
    for entry in manifest.shards:
        if not entry.live:
            continue
        size = sum(file.bytes for file in entry.files.values())
        if groups[-1] and n_bytes + size > max_bytes:
            groups.append([])
            n_bytes = 0
        groups[-1].append(entry.number)
        n_bytes += size
    return groups


class GroupSearch:
    """An open group of shards of a snapshot.

    Parameters
    ----------
    snapshot
        Of the whole index.
    numbers
        Numbers of the shards, ascending; each has live rows.
    """

    def __init__(self, snapshot: Snapshot, numbers: Sequence[int]) -> None:
        self._shards = ShardSet(snapshot, numbers)

    def find(self, query: Query, effort: Effort) -> GroupAnswer:
        """Search for one query, float32 (d,), with the effort of the whole index."""
        owners, rows, keys = self._candidates(query, effort)
        measured = self._shards.distances(query, owners, rows)
        positions = possible_winners(measured, effort.k)
        ids = [self._shards.image_id(owners[at], int(rows[at])) for at in positions.tolist()]
        return GroupAnswer(keys, positions, measured[positions], ids)

    def _candidates(self, query: Query, effort: Effort) -> tuple[Rows, Rows, FloatArray]:
        """Return shards, rows and merge keys of the nearest in the reduced space, by key."""
        reduced = self._shards.reduce(query)
        candidates = [
            reader.candidates(
                reduced,
                entries=self._shards.entries(shard, effort),
                most=effort.rerank,
                at_least=effort.k,
            )
            for shard, reader in enumerate(self._shards.readers)
        ]
        return self._shards.merge(range(len(candidates)), candidates, effort.rerank)


def possible_winners(measured: FloatArray, k: int) -> npt.NDArray[np.int32]:
    """Return which candidates of a group may be among the k nearest once all groups are merged.

    The merge takes the first candidates by key, so if it takes one, it also takes all candidates
    before it in the group. A candidate with k nearer ones before it can therefore not be a hit.

    Parameters
    ----------
    measured
        float64, (m,): exact distances, in the order of the keys.

    Examples
    --------
    >>> possible_winners(np.array([3.0, 1.0, 2.0, 2.0, 0.5, 4.0]), k=2).tolist()
    [0, 1, 2, 3, 4]
    """
    possible = []
    nearest: list[float] = []  # the k smallest distances so far, ascending
    for position, distance in enumerate(measured.tolist()):
        if len(nearest) < k or distance <= nearest[-1]:
            possible.append(position)
            bisect.insort(nearest, distance)
            del nearest[k:]
    return np.array(possible, dtype=np.int32)


def merge_answers(answers: Sequence[GroupAnswer], effort: Effort) -> list[tuple[str, float]]:
    """Return the k nearest of the whole index, best first, ties by id.

    Parameters
    ----------
    answers
        Answers of all groups of shards to one query, in the order of the groups.
    effort
        The effort of the search.

    Returns
    -------
    list of (image_id, distance)
    """
    keys = np.concatenate([answer.keys for answer in answers])
    owners = np.repeat(np.arange(len(answers)), [len(answer.keys) for answer in answers])
    best = np.argsort(keys, kind="stable")[: effort.rerank]
    # Keys of an answer ascend and the sort is stable, so these are the first ones of each answer.
    n_best = np.bincount(owners[best], minlength=len(answers))
    ids: list[str] = []
    measured = []
    for answer, n_of_answer in zip(answers, n_best.tolist(), strict=True):
        n_possible = int(np.searchsorted(answer.positions, n_of_answer))
        ids += answer.ids[:n_possible]
        measured.append(answer.distances[:n_possible])
    exact = np.concatenate(measured)
    return [
        (image_id, float(exact[at])) for image_id, at in top_k(exact, effort.k, ids.__getitem__)
    ]
