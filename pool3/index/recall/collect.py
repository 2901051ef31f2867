"""Searching one shard with the sample queries, at each level of effort."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.index.format.recall_curve import MEASURED_KS
from pool3.index.recall.evidence import MAX_RERANK, Evidence
from pool3.index.recall.picker import sample_keys
from pool3.index.recall.samples import Neighbours
from pool3.index.reduction import Reduction, tree_query
from pool3.index.shards.reader import ShardReader
from pool3.vectors.bounded import nearest
from pool3.vectors.distances import FloatArray, distances

# So many samples are searched with at all levels. Where no level from one on brings them even one
# in a thousand of their nearest neighbours, the other samples do without these levels, which take
# most of the time.
_PILOT = 50
_NEWS = 1e-3
_MOST_HITS = max(MEASURED_KS)


@dataclass
class _Clock:
    """Seconds of this thread's own core, and how often it was started."""

    seconds: float = 0.0
    count: int = 0

    @contextmanager
    def running(self, count: int = 1) -> Iterator[None]:
        start = time.thread_time()
        yield
        self.seconds += time.thread_time() - start
        self.count += count

    @property
    def mean(self) -> float:
        return self.seconds / self.count if self.count else 0.0


@dataclass(frozen=True)
class _Found:
    """What was found for one sample: rows, distances in the tree's space, first levels."""

    rows: npt.NDArray[np.int64]
    reduced: FloatArray
    first: npt.NDArray[np.int64]


def collect(
    reader: ShardReader,
    reduction: Reduction,
    ids: Sequence[str],
    queries: npt.NDArray[np.float32],
    part: Neighbours,
    *,
    entries: Sequence[int],
    metric: str,
) -> Evidence:
    """Search one shard with the samples at every level.

    A level that brings the first samples hardly anything new is not tried with the others, and
    counts for them as the one before it.

    Parameters
    ----------
    reader
        The shard, its vectors in a local file. Rows that are dead already are left out.
    reduction
        The index's.
    ids, queries
        s ids of the samples, whose own rows are left out, and float32, (s, d).
    part
        The samples' exact neighbours in this shard (`pool3.index.recall.samples.exact_neighbours`).
    entries
        Leaf entries of each level in this shard, ascending (`ShardEntry.search_k`).
    metric
        The index's.
    """
    search = _SampleSearch(reader, [reader.find(image_id) for image_id in ids], entries)
    known = _Known(reader, queries, part, metric)
    asked = [tree_query(short, metric=metric) for short in reduction.reduce(queries)]
    found = [search.found(at, asked[at], len(entries)) for at in range(len(ids))[:_PILOT]]
    exact = [known.exact(at, near.rows) for at, near in enumerate(found)]
    n_useful = _useful_levels(found, exact, part, len(entries))
    for at in range(len(ids))[_PILOT:]:
        found.append(search.found(at, asked[at], n_useful))
        exact.append(known.exact(at, found[at].rows))
    return Evidence(
        samples=sample_keys(ids),
        starts=np.cumsum([0, *(len(near.rows) for near in found)], dtype=np.int64),
        rows=_joined([near.rows for near in found]).astype(np.uint32),
        reduced=_joined([near.reduced for near in found]).astype(np.float32),
        exact=_joined(exact).astype(np.float64),
        first=_joined([near.first for near in found]).astype(np.uint8),
        seconds=np.array([clock.mean for clock in search.clocks]),
        row_seconds=np.array([_row_seconds(reader, queries, found[:_PILOT], metric)]),
    )


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0)


class _SampleSearch:
    """Searches one shard with samples, and takes the time."""

    def __init__(
        self, reader: ShardReader, own_rows: Sequence[int | None], entries: Sequence[int]
    ) -> None:
        self._reader = reader
        self._own_rows = own_rows
        self._entries = entries
        self.clocks = [_Clock() for _ in entries]

    def found(self, sample: int, asked: list[float], n_levels: int) -> _Found:
        """Search at the first levels; rows come nearest first."""
        each = []
        own = self._own_rows[sample]
        for entries, clock in zip(self._entries[:n_levels], self.clocks, strict=False):
            with clock.running():
                rows, near = self._reader.candidates(asked, entries=entries, most=MAX_RERANK + 1)
            others = slice(None) if own is None else rows != own
            each.append((rows[others][:MAX_RERANK], near[others][:MAX_RERANK]))
        rows = np.concatenate([rows for rows, _ in each])
        near = np.concatenate([near for _, near in each])
        first = np.repeat(np.arange(len(each)), [len(rows) for rows, _ in each])
        unique, at = np.unique(rows, return_index=True)
        order = np.lexsort((unique, near[at]))
        return _Found(unique[order], near[at][order], first[at][order])


def _useful_levels(
    found: Sequence[_Found], exact: Sequence[FloatArray], part: Neighbours, n_levels: int
) -> int:
    """Return how many levels there are up to the last that brings news: more hits at some k."""
    useful = 1
    for k in MEASURED_KS:
        hits = np.zeros(n_levels)
        for at, (near, measured) in enumerate(zip(found, exact, strict=True)):
            is_hit = measured <= part.distances[at, k - 1]
            for level in range(n_levels):
                hits[level] += min(k, int(is_hit[near.first <= level][:MAX_RERANK].sum()))
        news = np.flatnonzero(np.diff(hits) > _NEWS * k * len(found))
        useful = max(useful, *(int(level) + 2 for level in news), 1)
    return useful


class _Known:
    """Distances of a shard's rows, where they are known."""

    def __init__(
        self,
        reader: ShardReader,
        queries: npt.NDArray[np.float32],
        part: Neighbours,
        metric: str,
    ) -> None:
        self._reader = reader
        self._queries = queries
        self._part = part
        self._metric = metric
        self._keys = sample_keys(reader.ids.table().column("image_id").to_pylist())

    def exact(self, sample: int, rows: npt.NDArray[np.int64]) -> FloatArray:
        """Return distances to one sample, infinite where rows cannot be hits.

        Recall is counted within the radius up to which neighbours are known.
        """
        distances_known = self._part.distances[sample]
        known = int(np.isfinite(distances_known).sum())
        most = distances_known[_MOST_HITS - 1]
        if np.isfinite(most) and most == self._part.radius[sample]:
            # Rows beyond those that are known may be just as far.
            return distances(self._queries[sample], self._reader.rows_at(rows), self._metric)
        measured = np.full(len(rows), np.inf)
        if known:
            order = np.argsort(self._part.keys[sample, :known])
            keys, wanted = self._part.keys[sample, order], self._keys[rows]
            places = np.minimum(np.searchsorted(keys, wanted), known - 1)
            here = keys[places] == wanted
            measured[here] = distances_known[order[places[here]]]
        return measured


def _row_seconds(
    reader: ShardReader,
    queries: npt.NDArray[np.float32],
    found: Sequence[_Found],
    metric: str,
) -> float:
    """Return what it takes to re-rank one row, as a search for ten does it."""
    clock = _Clock()
    for query, near in zip(queries, found, strict=False):
        rows = near.rows[:_MOST_HITS]
        with clock.running(len(rows)):
            nearest(query, reader.rows_at(rows), metric, 10)
    return clock.mean
