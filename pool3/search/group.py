"""Some of an index's shards searched by themselves, and the answers of all parts merged.

For a cluster, where no machine need hold the whole index. The merged answer is that of
`pool3.search.fan_out`, wherever the shards were.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pool3.index.format.manifest import Manifest
from pool3.index.recall.effort import Effort
from pool3.index.reduction import Reduction, tree_query
from pool3.index.shards.reader import ShardReader
from pool3.search.merge import merged_candidates
from pool3.vectors.distances import FloatArray, distances, top_k

Query = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GroupAnswer:
    """What some shards found for one query.

    Attributes
    ----------
    keys
        float64, (m,), ascending: what candidates are merged by, of each of them.
    positions
        int32, (w,): the candidates that may be among the k nearest of the whole index.
    distances
        float64, (w,): theirs, exact.
    ids
        Their w image_ids.
    """

    keys: FloatArray
    positions: npt.NDArray[np.int32]
    distances: FloatArray
    ids: list[str]


def shard_groups(manifest: Manifest, max_bytes: int) -> list[list[int]]:
    """Deal shards to groups, in order, each of at most `max_bytes` of files or of one shard.

    Returns
    -------
    list of list of int
        Numbers of the shards that a search may find something in; one group at least.
    """
    groups: list[list[int]] = [[]]
    held = 0
    for entry in manifest.shards:
        if not entry.live:
            continue
        size = sum(file.bytes for file in entry.files.values())
        if groups[-1] and held + size > max_bytes:
            groups.append([])
            held = 0
        groups[-1].append(entry.number)
        held += size
    return groups


class GroupSearch:
    """Some shards of a snapshot, open.

    Parameters
    ----------
    index_uri
        Canonical uri of the index's root.
    manifest
        What the whole snapshot consists of.
    reduction
        The snapshot's.
    numbers
        Which shards, ascending; each with live rows.
    """

    def __init__(
        self, index_uri: str, manifest: Manifest, reduction: Reduction, numbers: Sequence[int]
    ) -> None:
        self._metric = manifest.metric
        self._all_rows = sum(entry.rows for entry in manifest.shards if entry.live)
        self._reduction = reduction
        self.shards = [
            ShardReader(index_uri, manifest.shards[number], manifest, reduction)
            for number in numbers
        ]

    def find(self, query: Query, effort: Effort) -> GroupAnswer:
        """Search for one query, float32 (d,), as far as `effort` says for the whole index."""
        numbers, rows, keys = self._candidates(query, effort)
        measured = self._measured(query, numbers, rows)
        positions = possible_winners(measured, effort.k)
        ids = [self.shards[numbers[at]].ids.image_id(int(rows[at])) for at in positions.tolist()]
        return GroupAnswer(keys, positions, measured[positions], ids)

    def _candidates(self, query: Query, effort: Effort) -> tuple[Rows, Rows, FloatArray]:
        """Return shards, rows and merge keys of the nearest in the reduced space, by key."""
        # One row a product, as in a single search: the last bits depend on a product's shape.
        asked = tree_query(self._reduction.reduce(query[None, :])[0], metric=self._metric)
        found = [
            shard.candidates(
                asked,
                entries=effort.entries(shard.entry, self._all_rows),
                most=effort.rerank,
                at_least=effort.k,
            )
            for shard in self.shards
        ]
        return merged_candidates(
            self.shards, range(len(found)), found, metric=self._metric, most=effort.rerank
        )

    def _measured(self, query: Query, numbers: Rows, rows: Rows) -> FloatArray:
        measured = np.empty(len(rows))
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            vectors = self.shards[number].rows_at(rows[here])
            measured[here] = distances(query, vectors, self._metric)
        return measured


def possible_winners(measured: FloatArray, k: int) -> npt.NDArray[np.int32]:
    """Return which candidates of a part may be among the k nearest once all parts are merged.

    The merge keeps the first candidates by key, so that with one of them it keeps all that stand
    before it in the part. A candidate with k nearer ones before it can therefore never win.

    Parameters
    ----------
    measured
        float64, (m,): exact distances, in the order of the keys.

    Examples
    --------
    >>> possible_winners(np.array([3.0, 1.0, 2.0, 2.0, 0.5, 4.0]), k=2).tolist()
    [0, 1, 2, 3, 4]
    """
    kept = []
    nearest: list[float] = []  # the k smallest so far, ascending
    for position, distance in enumerate(measured.tolist()):
        if len(nearest) < k or distance <= nearest[-1]:
            kept.append(position)
            bisect.insort(nearest, distance)
            del nearest[k:]
    return np.array(kept, dtype=np.int32)


def merged(parts: Sequence[GroupAnswer], effort: Effort) -> list[tuple[str, float]]:
    """Return the k nearest of the whole index, best first, ties by id.

    Parameters
    ----------
    parts
        What every group of shards found for one query, in the order of the groups.
    effort
        The one that they were searched with.

    Returns
    -------
    list of (image_id, distance)
    """
    keys = np.concatenate([part.keys for part in parts])
    owners = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
    best = np.argsort(keys, kind="stable")[: effort.rerank]
    # Keys of a part ascend and equals keep their order, so that of each part its first ones stay.
    stay = np.bincount(owners[best], minlength=len(parts))
    ids: list[str] = []
    measured = []
    for part, n_stay in zip(parts, stay.tolist(), strict=True):
        n_kept = int(np.searchsorted(part.positions, n_stay))
        ids += part.ids[:n_kept]
        measured.append(part.distances[:n_kept])
    found = np.concatenate(measured)
    return [
        (image_id, float(found[at])) for image_id, at in top_k(found, effort.k, ids.__getitem__)
    ]
