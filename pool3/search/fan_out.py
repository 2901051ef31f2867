"""Searches all shards of an open index in threads.

Deliberately not here: what is done with each query (`query_search`), and hits (`searcher`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from pool3.index.recall.effort import Effort
from pool3.index.shards.selection import Selection, Selections
from pool3.index.snapshots.snapshot import Snapshot
from pool3.search.query_search import Neighbour, OfShard, QuerySearch, split_shards
from pool3.search.shard_set import Candidates, Query, ShardSet

Vectors = npt.NDArray[np.float32]


class FanOut:
    """Searches all shards of an open index that have live rows. Threads may share it.

    Parameters
    ----------
    snapshot
        The open snapshot.

    Attributes
    ----------
    shards : ShardSet
    selections : Selections
        The rows that a search may return.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._dimension = snapshot.manifest.dimension
        cores = len(os.sched_getaffinity(0))
        # Idle threads cost nothing; they end when the index is deleted.
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="pool3-search")
        self.shards = ShardSet(snapshot, open_each=self._pool.map)
        readers = self.shards.readers
        self._workers = max(1, min(len(readers), cores))
        list(self._pool.map(lambda reader: reader.stored_vectors.open(), readers))
        self.selections = Selections(readers)

    def nearest(
        self, query: Query, effort: Effort, selection: Selection | None = None
    ) -> list[Neighbour]:
        """Return the rows nearest to one query, float32 (d,), best first, ties by id.

        They are rows of `selection`, or any live rows when it is None.
        """
        chosen = selection or self.selections.everything
        return QuerySearch(self.shards, query, effort, chosen, self._in_threads).run()

    def nearest_each(
        self, queries: Vectors, effort: Effort, selection: Selection | None = None
    ) -> list[list[Neighbour]]:
        """Return the rows nearest to each of many queries, float32 (n, d)."""
        chosen = selection or self.selections.everything

        # Each thread takes whole queries, and searches their shards in turn.
        def search(query: Query) -> list[Neighbour]:
            return QuerySearch(self.shards, query, effort, chosen, map).run()

        return list(self._pool.map(search, queries))

    def stored_vector(self, place: tuple[int, int]) -> Query:
        """Return the stored vector of a row, given as shard and row, float32 (d,)."""
        shard, row = place
        rows = self.shards.readers[shard].rows_at(np.array([row]))
        return np.asarray(rows[0], dtype=np.float32)

    def recall(self, effort: Effort, selection: Selection) -> float | None:
        """Return the lower bound of the recall of a search; None if it was not measured."""
        _, searched = split_shards(self.shards, effort, selection)
        if not searched:
            return 1.0
        # Recall was measured for searches that may return every row.
        unrestricted = not selection.narrowed and selection.values is None
        return effort.recall if unrestricted else None

    def vectors(self, neighbours: Sequence[Neighbour]) -> Vectors:
        """Return the stored vectors of neighbours, float32 (n, d)."""
        vectors = np.empty((len(neighbours), self._dimension), dtype=np.float32)
        for reader in {neighbour.shard for neighbour in neighbours}:
            here = [at for at, neighbour in enumerate(neighbours) if neighbour.shard is reader]
            vectors[here] = reader.rows_at(np.array([neighbours[at].row for at in here]))
        return vectors

    def _in_threads(self, of_shard: OfShard, shards: Sequence[int]) -> list[Candidates]:
        """Apply a function to shards: a share of them in each thread, this one included."""
        shares = [shards[start :: self._workers] for start in range(self._workers)]
        others = [self._pool.submit(_in_turn, of_shard, share) for share in shares[1:] if share]
        results = [_in_turn(of_shard, shares[0]), *(other.result() for other in others)]
        # Each share has every n-th shard; put the results back in the order of the shards.
        return [results[at % self._workers][at // self._workers] for at in range(len(shards))]


def _in_turn(of_shard: OfShard, shards: Sequence[int]) -> list[Candidates]:
    return [of_shard(shard) for shard in shards]
