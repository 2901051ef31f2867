"""The nearest rows over all shards: each shard in its own thread, one merge, one exact re-ranking.

Where few rows may be returned, all of them are measured instead; where hits are too alike for
`distinct`, four times as many are looked at until there are enough, or all were seen.

Deliberately not here: what a query may be, and what a person sees of the answer (`index`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pool3.index.recall.effort import Effort
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.selection import Selection, Selections
from pool3.index.snapshots.snapshot import Snapshot
from pool3.search.merge import RankedRows
from pool3.search.shard_set import Candidates, Query, Rows, ShardSet
from pool3.vectors.bounded import nearest
from pool3.vectors.distances import FloatArray

Vectors = npt.NDArray[np.float32]
OfShard = Callable[[int], Candidates]
OverShards = Callable[..., Iterable[Candidates]]

# Rows that are read at a time when many are measured.
_SCAN_BLOCK_ROWS = 4096

# As many rows that pass are all measured, rather than searched for, and more where that costs less:
# so many rows take the time of one entry of the trees. Measured over 100,000 rows of 2048 numbers,
# 50 trees: 1.7 us a row, 0.14 to 0.24 us an entry; 4000 rows take 7 ms and are exact, by the trees
# they take 12 ms.
FEW_ROWS = 4096
ENTRY_COST = 0.1

# How many more entries are gathered than the share that passes would ask for, since neighbours are
# then farther away: with 4 % passing, recall@10 of 0.89 became 0.96; it is 0.998 where all pass.
_WIDER = 2


class Neighbour(NamedTuple):
    """One row of the answer: its id, its distance, and where it stands."""

    image_id: str
    distance: float
    shard: ShardReader
    row: int


class FanOut:
    """The shards of an open index, those without rows left out. Threads may share it.

    Parameters
    ----------
    snapshot
        Of the index.

    Attributes
    ----------
    shards : ShardSet
    selections : Selections
        Which rows a search may return.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._dimension = snapshot.manifest.dimension
        cores = len(os.sched_getaffinity(0))
        # Idle threads cost nothing, and end with the index.
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="pool3-search")
        self.shards = ShardSet(snapshot, open_each=self._pool.map)
        readers = self.shards.readers
        self._workers = max(1, min(len(readers), cores))
        list(self._pool.map(lambda reader: reader.stored_vectors.open(), readers))
        self.selections = Selections(readers)

    def nearest(
        self, query: Query, effort: Effort, selection: Selection | None = None
    ) -> list[Neighbour]:
        """Find the rows nearest to one query, float32 (d,); best first, ties by id.

        All that `selection` lets through may be returned, all live ones when None.
        """
        chosen = selection or self.selections.everything
        return self._nearest(query, effort, chosen, self._in_threads)

    def nearest_each(
        self, queries: Vectors, effort: Effort, selection: Selection | None = None
    ) -> list[list[Neighbour]]:
        """Find the rows nearest to each of many queries, float32 (n, d)."""
        chosen = selection or self.selections.everything
        # Here queries share the threads, and each goes through the shards in turn.
        return list(
            self._pool.map(lambda query: self._nearest(query, effort, chosen, map), queries)
        )

    def stored(self, place: tuple[int, int]) -> Query:
        """Return the stored vector of a row, float32 (d,)."""
        shard, row = place
        rows = self.shards.readers[shard].rows_at(np.array([row]))
        return np.asarray(rows[0], dtype=np.float32)

    def recall(self, effort: Effort, selection: Selection) -> float | None:
        """Return the lower bound of the recall of a search; None where it is not known."""
        if not self._split(effort, selection)[1]:
            return 1.0
        # What was measured holds for a search that may return every row.
        usual = not selection.narrowed and selection.values is None
        return effort.recall if usual else None

    def vectors(self, neighbours: Sequence[Neighbour]) -> Vectors:
        """Return the stored vectors of neighbours, float32 (n, d)."""
        vectors = np.empty((len(neighbours), self._dimension), dtype=np.float32)
        for reader in {neighbour.shard for neighbour in neighbours}:
            here = [at for at, neighbour in enumerate(neighbours) if neighbour.shard is reader]
            vectors[here] = reader.rows_at(np.array([neighbours[at].row for at in here]))
        return vectors

    def _in_threads(self, of_shard: OfShard, shards: Sequence[int]) -> list[Candidates]:
        """Run over shards, a share of them in each thread and one in this thread itself."""
        shares = [shards[start :: self._workers] for start in range(self._workers)]
        others = [self._pool.submit(_in_turn, of_shard, share) for share in shares[1:] if share]
        results = [_in_turn(of_shard, shares[0]), *(other.result() for other in others)]
        # Every n-th shard went to the same thread; this is their order again.
        return [results[at % self._workers][at // self._workers] for at in range(len(shards))]

    def _nearest(
        self, query: Query, effort: Effort, selection: Selection, over_shards: OverShards
    ) -> list[Neighbour]:
        scanned, searched = self._split(effort, selection)
        exact = self._scan(query, scanned, effort.k, selection, over_shards) if scanned else []
        if not searched:
            return self._best(exact, effort.k, selection)
        reduced = self.shards.reduce(query)
        factor = 1
        while searched:
            candidates = self._candidates(reduced, searched, effort, factor, selection, over_shards)
            ranked = [*exact, self._measured(query, *candidates, effort.k, selection)]
            best = self._best(ranked, effort.k, selection)
            if len(best) >= min(effort.k, selection.hits):
                return best
            factor *= 4
            if factor * effort.rerank >= selection.rows:
                scanned, searched = scanned + searched, []
                exact = self._scan(query, scanned, effort.k, selection, over_shards)
        return self._best(exact, effort.k, selection)

    def _split(self, effort: Effort, selection: Selection) -> tuple[list[int], list[int]]:
        """Return the shards whose rows are all measured, and those that are searched by tree."""
        if not selection.narrowed:
            return [], selection.shards
        scanned: list[int] = []
        searched: list[int] = []
        for shard in selection.shards:
            entries = self._entries(shard, effort, selection)
            cheaper = measuring_is_cheaper(selection.counts[shard], entries)
            (scanned if cheaper else searched).append(shard)
        return scanned, searched

    def _entries(self, shard: int, effort: Effort, selection: Selection) -> int:
        """Return how many entries of a shard's trees are gathered at first."""
        usual = self.shards.entries(shard, effort)
        if not selection.narrowed:
            return usual
        live = self.shards.readers[shard].entry.live
        return widened(usual, passing=selection.counts[shard], live=live)

    def _candidates(
        self,
        reduced: list[float],
        shards: Sequence[int],
        effort: Effort,
        factor: int,
        selection: Selection,
        over_shards: OverShards,
    ) -> tuple[Rows, Rows]:
        """Return shards and rows of the nearest in the reduced space."""
        candidates = over_shards(
            lambda shard: self._candidates_of(shard, reduced, effort, factor, selection), shards
        )
        owners, rows, _ = self.shards.merge(shards, list(candidates), effort.rerank * factor)
        return owners, rows

    def _candidates_of(
        self, shard: int, reduced: list[float], effort: Effort, factor: int, selection: Selection
    ) -> Candidates:
        at_least = effort.k
        if selection.narrowed:
            # Where few rows near the query pass, k of them might be any k.
            share = selection.counts[shard] / selection.rows
            at_least = max(at_least, math.ceil(effort.rerank * share))
        return self.shards.readers[shard].candidates(
            reduced,
            entries=self._entries(shard, effort, selection) * factor,
            most=effort.rerank * factor,
            at_least=at_least,
            passing=selection.masks[shard],
        )

    def _measured(
        self, query: Query, shards: Rows, rows: Rows, k: int, selection: Selection
    ) -> RankedRows:
        """Return exact distances of those candidates that may be among the k nearest."""
        vectors = self.shards.vectors(shards, rows)
        chosen, distances = self._nearest_of(query, vectors, k, selection)
        return RankedRows(shards[chosen], rows[chosen], distances)

    def _nearest_of(
        self, query: Query, vectors: npt.NDArray[Any], k: int, selection: Selection
    ) -> tuple[Rows, FloatArray]:
        # Where hits must differ, any row may be one.
        most = k if selection.values is None else len(vectors)
        return nearest(query, vectors, self.shards.metric, most)

    def _scan(
        self,
        query: Query,
        shards: Sequence[int],
        k: int,
        selection: Selection,
        over_shards: OverShards,
    ) -> list[RankedRows]:
        """Return exact distances of all rows of some shards that may be among the k nearest."""

        def scan(shard: int) -> tuple[Rows, FloatArray]:
            reader, mask = self.shards.readers[shard], selection.masks[shard]
            rows = np.arange(reader.entry.rows) if mask is None else np.flatnonzero(mask)
            blocks = []
            for start in range(0, len(rows), _SCAN_BLOCK_ROWS):
                block = rows[start : start + _SCAN_BLOCK_ROWS]
                chosen, distances = self._nearest_of(query, reader.rows_at(block), k, selection)
                blocks.append((block[chosen], distances))
            nearest_rows, distances = (
                np.concatenate(arrays) for arrays in zip(*blocks, strict=True)
            )
            return nearest_rows, distances

        return [
            RankedRows(np.full(len(rows), shard), rows, distances)
            for shard, (rows, distances) in zip(shards, over_shards(scan, shards), strict=True)
        ]

    def _best(self, ranked: Sequence[RankedRows], k: int, selection: Selection) -> list[Neighbour]:
        candidates = RankedRows.concatenated(ranked)
        # Lists, since taking single numbers out of arrays would take most of the time here.
        shards: list[int] = candidates.shards.tolist()
        rows: list[int] = candidates.rows.tolist()
        readers = self.shards.readers

        def id_of(position: int) -> str:
            return readers[shards[position]].ids.image_id(rows[position])

        return [
            Neighbour(image_id, float(candidates.distances[at]), readers[shards[at]], rows[at])
            for image_id, at in candidates.best(k, id_of, selection.values)
        ]


def _in_turn(of_shard: OfShard, shards: Sequence[int]) -> list[Candidates]:
    return [of_shard(shard) for shard in shards]


def widened(entries: int, *, passing: int, live: int) -> int:
    """Return how many entries of the trees are gathered so that enough of them pass.

    Parameters
    ----------
    entries
        How many are where every row may be returned.
    passing, live
        How many rows of the shard pass, at least 1, and how many there are.
    """
    return _WIDER * -(-entries * live // passing)


def measuring_is_cheaper(passing: int, entries: int) -> bool:
    """Tell whether measuring all rows that pass costs less than gathering so many entries."""
    return passing <= max(FEW_ROWS, entries * ENTRY_COST)
