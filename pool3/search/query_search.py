"""Searches shards with one query: by tree or by a scan of all passing rows, and ranks exactly.

If only few rows of a shard pass, all of them are measured instead of searched by tree. If too many
candidates have the same `distinct` value, the search takes four times as many, until there are
enough hits or all rows were measured.

Deliberately not here: the threads of a search (`fan_out`), and its queries and options (`request`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pool3.index.recall.effort import Effort
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.selection import Selection
from pool3.search.merge import RankedRows
from pool3.search.shard_set import Candidates, Query, Rows, ShardSet
from pool3.vectors.bounded import nearest
from pool3.vectors.distances import FloatArray

#: Searches or scans one shard, by its position.
OfShard = Callable[[int], Candidates]
#: Applies an `OfShard` to several shards, as `map` does.
OverShards = Callable[[OfShard, Sequence[int]], Iterable[Candidates]]

# Rows that are read at a time in a scan.
_SCAN_BLOCK_ROWS = 4096

# Up to FEW_ROWS passing rows are all measured rather than searched by tree, and more where that
# costs less; measuring ENTRY_COST rows takes as long as gathering one entry of the trees. Measured
# over 100,000 rows of 2048 numbers, 50 trees: 1.7 us a row, 0.14 to 0.24 us an entry; measuring
# 4000 rows takes 7 ms and is exact, searching them by tree takes 12 ms.
FEW_ROWS = 4096
ENTRY_COST = 0.1

# Factor of the entries beyond the share of passing rows, since passing neighbours are farther away:
# with 4 % passing, recall@10 of 0.89 became 0.96; it is 0.998 where all rows pass.
_WIDER = 2


class Neighbour(NamedTuple):
    """One row of the answer: its image_id, its distance, its shard and the row there."""

    image_id: str
    distance: float
    shard: ShardReader
    row: int


def split_shards(
    shards: ShardSet, effort: Effort, selection: Selection
) -> tuple[list[int], list[int]]:
    """Return the shards to scan, and those to search by tree."""
    if not selection.narrowed:
        return [], selection.shards
    scanned: list[int] = []
    searched: list[int] = []
    for shard in selection.shards:
        entries = _entries(shards, shard, effort, selection)
        cheaper = _scan_is_cheaper(selection.counts[shard], entries)
        (scanned if cheaper else searched).append(shard)
    return scanned, searched


def _entries(shards: ShardSet, shard: int, effort: Effort, selection: Selection) -> int:
    """Return how many entries of a shard's trees are gathered at first."""
    entries = shards.entries(shard, effort)
    if not selection.narrowed:
        return entries
    live = shards.readers[shard].entry.live
    return _WIDER * -(-entries * live // selection.counts[shard])


def _scan_is_cheaper(passing: int, entries: int) -> bool:
    """Return whether measuring all passing rows costs less than gathering entries."""
    return passing <= max(FEW_ROWS, entries * ENTRY_COST)


class QuerySearch:
    """The search of some shards with one query.

    Parameters
    ----------
    shards
        The open shards.
    query
        float32, (d,).
    effort
        Of the search.
    selection
        The rows that it may return.
    over_shards
        Runs the steps of several shards, for example in threads.
    """

    def __init__(
        self,
        shards: ShardSet,
        query: Query,
        effort: Effort,
        selection: Selection,
        over_shards: OverShards,
    ) -> None:
        self._shards = shards
        self._query = query
        self._effort = effort
        self._selection = selection
        self._over_shards = over_shards

    def run(self) -> list[Neighbour]:
        """Return the nearest rows, best first, ties by id."""
        effort, selection = self._effort, self._selection
        scanned, searched = split_shards(self._shards, effort, selection)
        exact = self._scan(scanned)
        if not searched:
            return self._best(exact)
        reduced = self._shards.reduce(self._query)
        factor = 1
        while searched:
            owners, rows = self._candidates(reduced, searched, factor)
            best = self._best([*exact, self._rerank(owners, rows)])
            if len(best) >= min(effort.k, selection.hits):
                return best
            factor *= 4
            if factor * effort.rerank >= selection.rows:
                scanned, searched = scanned + searched, []
                exact = self._scan(scanned)
        return self._best(exact)

    def _candidates(
        self, reduced: list[float], shards: Sequence[int], factor: int
    ) -> tuple[Rows, Rows]:
        """Return shards and rows of the nearest candidates in the reduced space."""
        candidates = self._over_shards(
            lambda shard: self._candidates_of(shard, reduced, factor), shards
        )
        limit = self._effort.rerank * factor
        owners, rows, _ = self._shards.merge(shards, list(candidates), limit)
        return owners, rows

    def _candidates_of(self, shard: int, reduced: list[float], factor: int) -> Candidates:
        effort, selection = self._effort, self._selection
        at_least = effort.k
        if selection.narrowed:
            # If few rows near the query pass, the first k of them may not be the nearest.
            share = selection.counts[shard] / selection.rows
            at_least = max(at_least, math.ceil(effort.rerank * share))
        return self._shards.readers[shard].candidates(
            reduced,
            entries=_entries(self._shards, shard, effort, selection) * factor,
            most=effort.rerank * factor,
            at_least=at_least,
            passing=selection.masks[shard],
        )

    def _rerank(self, shards: Rows, rows: Rows) -> RankedRows:
        """Return those candidates that may be among the k nearest, with exact distances."""
        chosen, distances = self._nearest_of(self._shards.vectors(shards, rows))
        return RankedRows(shards[chosen], rows[chosen], distances)

    def _nearest_of(self, vectors: npt.NDArray[Any]) -> tuple[Rows, FloatArray]:
        # With distinct values, any row may be a hit.
        most = self._effort.k if self._selection.values is None else len(vectors)
        return nearest(self._query, vectors, self._shards.metric, most)

    def _scan(self, shards: Sequence[int]) -> list[RankedRows]:
        """Measure all passing rows of shards; returns those that may be among the k nearest."""
        if not shards:
            return []
        return [
            RankedRows(np.full(len(rows), shard), rows, distances)
            for shard, (rows, distances) in zip(
                shards, self._over_shards(self._scan_shard, shards), strict=True
            )
        ]

    def _scan_shard(self, shard: int) -> Candidates:
        reader, mask = self._shards.readers[shard], self._selection.masks[shard]
        rows = np.arange(reader.entry.rows) if mask is None else np.flatnonzero(mask)
        blocks = []
        for start in range(0, len(rows), _SCAN_BLOCK_ROWS):
            block = rows[start : start + _SCAN_BLOCK_ROWS]
            chosen, distances = self._nearest_of(reader.rows_at(block))
            blocks.append((block[chosen], distances))
        nearest_rows, distances = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
        return nearest_rows, distances

    def _best(self, ranked: Sequence[RankedRows]) -> list[Neighbour]:
        candidates = RankedRows.concatenated(ranked)
        # Lists, since reading single numbers from arrays would take most of the time here.
        shards: list[int] = candidates.shards.tolist()
        rows: list[int] = candidates.rows.tolist()
        readers = self._shards.readers

        def id_of(position: int) -> str:
            return readers[shards[position]].ids.image_id(rows[position])

        return [
            Neighbour(image_id, float(candidates.distances[at]), readers[shards[at]], rows[at])
            for image_id, at in candidates.best(self._effort.k, id_of, self._selection.values)
        ]
