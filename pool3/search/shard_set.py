"""Shards of one snapshot that are searched together: the steps that all searches have in common.

A query is reduced once, the tree of each shard gives candidates, these are merged over the shards,
and the best of them are re-ranked by exact distances to their stored vectors. Deliberately not
here: order and threads of these steps (`query_search`, `fan_out`, `group`, `duplicates`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.index.recall.effort import Effort
from pool3.index.reduction.tree_space import tree_query
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.vectors import gather_vectors
from pool3.index.snapshots.snapshot import Snapshot
from pool3.search.merge import merge_candidates
from pool3.vectors.distances import FloatArray, distances

Query = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
#: Rows of one shard with their distances in its tree, ascending.
Candidates = tuple[Rows, FloatArray]


class ShardSet:
    """Open shards of one snapshot. Threads may share it.

    Parameters
    ----------
    snapshot
        Of the whole index.
    numbers
        Numbers of the shards, ascending; all with live rows when None.
    open_each
        Applies a function to each number, as `map` does; `map` of a pool opens shards in threads.

    Attributes
    ----------
    metric : str
    readers : list of ShardReader
        Methods take and return positions in this list as shards.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        numbers: Sequence[int] | None = None,
        *,
        open_each: Callable[..., Iterable[ShardReader]] = map,
    ) -> None:
        self.metric = snapshot.manifest.metric
        self._reduction = snapshot.reduction
        self._all_rows = sum(entry.rows for entry in snapshot.manifest.shards if entry.live)
        chosen = snapshot.searchable if numbers is None else numbers
        self.readers = list(open_each(lambda n: ShardReader(snapshot.shard(n)), chosen))

    def reduce(self, query: Query) -> list[float]:
        """Reduce one query, float32 (d,), to what the trees take.

        Each query is reduced alone. One product for many queries would take 9 us rather than 27 us
        for each, but would differ in its last bits, and so sometimes in its hits, from that of a
        single search.
        """
        return tree_query(self._reduction.reduce(query[None, :])[0], metric=self.metric)

    def entries(self, shard: int, effort: Effort) -> int:
        """Return how many leaf entries of a shard's trees an effort gathers."""
        return effort.entries(self.readers[shard].entry, self._all_rows)

    def merge(
        self, shards: Sequence[int], candidates: Sequence[Candidates], limit: int
    ) -> tuple[Rows, Rows, FloatArray]:
        """Merge the candidates of some shards; see `pool3.search.merge.merge_candidates`."""
        max_norms = [self.readers[shard].max_norm for shard in shards]
        return merge_candidates(
            shards, candidates, metric=self.metric, max_norms=max_norms, limit=limit
        )

    def vectors(self, shards: Rows, rows: Rows) -> npt.NDArray[Any]:
        """Return the stored vectors of rows of several shards, float16 or float32, (m, d)."""
        return gather_vectors([reader.stored_vectors for reader in self.readers], shards, rows)

    def distances(self, query: Query, shards: Rows, rows: Rows) -> FloatArray:
        """Return the exact distances of rows to a query, float64, (m,)."""
        return distances(query, self.vectors(shards, rows), self.metric)

    def image_id(self, shard: int, row: int) -> str:
        """Return the image_id of a row."""
        return self.readers[shard].ids.image_id(row)

    def find(self, image_id: str) -> tuple[int, int] | None:
        """Return the shard and the live row of an image_id; None without one."""
        for shard, reader in enumerate(self.readers):
            row = reader.find(image_id)
            if row is not None:
                return shard, row
        return None
