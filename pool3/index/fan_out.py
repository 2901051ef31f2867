"""The nearest rows over all shards: each shard in its own thread, one merge, one exact re-ranking.

Deliberately not here: what a query may be, and what a person sees of the answer (`pool3.search`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pool3.distances import FloatArray, distances, top_k
from pool3.index.depth import Depth
from pool3.index.manifest import Manifest
from pool3.index.reduction import Reduction, tree_query
from pool3.index.shard_reader import ShardReader

Query = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
OverShards = Callable[..., Iterable[tuple[Rows, FloatArray]]]


@dataclass(frozen=True)
class Neighbour:
    """One row that was found: its id, its distance, and where it stands."""

    image_id: str
    distance: float
    shard: ShardReader
    row: int


class FanOut:
    """The shards of an open index, those without rows left out. Threads may share it.

    Parameters
    ----------
    index_uri
        Canonical uri of the index's root.
    manifest
        What the snapshot consists of.
    reduction
        The snapshot's.
    cache_max_bytes
        As for `pool3.index.files.IndexFiles`.

    Attributes
    ----------
    shards : list of ShardReader
    """

    def __init__(
        self,
        index_uri: str,
        manifest: Manifest,
        reduction: Reduction,
        cache_max_bytes: int | None = None,
    ) -> None:
        self._metric = manifest.metric
        self._n_trees = manifest.n_trees
        self._reduction = reduction
        filled = [entry for entry in manifest.shards if entry.live]
        self._all_rows = sum(entry.rows for entry in filled)
        # Idle threads cost nothing, and end with the index.
        workers = max(1, min(len(filled), len(os.sched_getaffinity(0))))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pool3-search")
        self.shards = list(
            self._pool.map(
                lambda entry: ShardReader(index_uri, entry, manifest, reduction, cache_max_bytes),
                filled,
            )
        )

    def nearest(self, query: Query, depth: Depth) -> list[Neighbour]:
        """Find the rows nearest to one query, float32 (d,); best first, ties by id."""
        return self._nearest(query, depth, self._pool.map)

    def nearest_each(self, queries: list[Query], depth: Depth) -> list[list[Neighbour]]:
        """Find the rows nearest to each of many queries."""
        # Here queries share the threads, and each goes through the shards in turn.
        return list(self._pool.map(lambda query: self._nearest(query, depth, map), queries))

    def stored(self, image_id: str) -> Query | None:
        """Return the stored vector of an image_id, None where it is not in the index."""
        for shard in self.shards:
            row = shard.find(image_id)
            if row is not None:
                return np.asarray(shard.rows_at(np.array([row]))[0], dtype=np.float32)
        return None

    def _nearest(self, query: Query, depth: Depth, over_shards: OverShards) -> list[Neighbour]:
        numbers, rows = self._candidates(query, depth, over_shards)
        measured = self._measured(query, numbers, rows)

        def id_of(position: int) -> str:
            return str(self.shards[numbers[position]].ids.value(int(rows[position])))

        return [
            Neighbour(image_id, float(measured[at]), self.shards[numbers[at]], int(rows[at]))
            for image_id, at in top_k(measured, depth.k, id_of)
        ]

    def _candidates(self, query: Query, depth: Depth, over_shards: OverShards) -> tuple[Rows, Rows]:
        """Return shard numbers and rows of the nearest in the reduced space."""
        reduced = self._reduction.reduce(query[None, :])[0]
        asked = tree_query(reduced, metric=self._metric)
        found = over_shards(lambda shard: self._near(shard, asked, depth), self.shards)
        parts = [
            (np.full(len(rows), number), rows, self._merge_key(self.shards[number], near))
            for number, (rows, near) in enumerate(found)
        ]
        if not parts:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        numbers, rows, keys = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        best = np.argsort(keys, kind="stable")[: depth.rerank]
        return numbers[best], rows[best]

    def _near(self, shard: ShardReader, asked: Query, depth: Depth) -> tuple[Rows, FloatArray]:
        # The same row may come from every tree, so that fewer entries might hold fewer than k rows.
        fewest = self._n_trees * (depth.k + shard.entry.dead)
        entries = max(depth.entries(shard.entry, self._all_rows), fewest)
        return shard.candidates(asked, entries=entries, most=depth.rerank)

    def _merge_key(self, shard: ShardReader, near: FloatArray) -> FloatArray:
        """Make distances in different trees comparable: ascending is nearest."""
        # Under dot, near^2 = |q|^2 + M^2 - 2 q.x with each shard's own M; the rest orders by q.x.
        return near**2 - shard.max_norm**2 if self._metric == "dot" else near

    def _measured(self, query: Query, numbers: Rows, rows: Rows) -> FloatArray:
        """Return exact distances of candidates to the stored vectors."""
        measured = np.empty(len(rows))
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            vectors = self.shards[number].rows_at(rows[here])
            measured[here] = distances(query, vectors, self._metric)
        return measured
