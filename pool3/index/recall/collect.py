"""Searches one shard with the sample queries, at each level of effort."""

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
from pool3.index.reduction.pca import Reduction
from pool3.index.reduction.tree_space import tree_query
from pool3.index.shards.reader import ShardReader
from pool3.vectors.bounded import nearest
from pool3.vectors.distances import FloatArray, distances

# The first samples are searched at all levels. The other samples skip the last levels, which take
# most of the time, if these bring the first ones less than a thousandth more of their neighbours.
_PILOT_SAMPLES = 50
_MIN_GAIN = 1e-3
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
class _Candidates:
    """Candidates of one sample: rows, distances in the tree's space, first level with each row."""

    rows: npt.NDArray[np.int64]
    reduced: FloatArray
    first: npt.NDArray[np.int64]


def collect(
    reader: ShardReader,
    reduction: Reduction,
    ids: Sequence[str],
    queries: npt.NDArray[np.float32],
    neighbours: Neighbours,
) -> Evidence:
    """Search one shard with the samples at every level that its entry states.

    A level that brings the first samples hardly any new neighbours is skipped for the others, and
    counts for them as the level before it.

    Parameters
    ----------
    reader
        The shard, its vectors in a local file. Deleted rows are left out.
    reduction
        The index's.
    ids, queries
        s ids of the samples, whose own rows are left out, and float32, (s, d).
    neighbours
        The samples' exact neighbours in this shard
        (`pool3.index.recall.samples.exact_neighbours`).
    """
    metric, n_levels = reduction.metric, len(reader.entry.search_k)
    search = _SampleSearch(reader, [reader.find(image_id) for image_id in ids])
    exact_distances = _ExactDistances(reader, queries, neighbours, metric)
    reduced = [tree_query(query, metric=metric) for query in reduction.reduce(queries)]
    pilot = range(len(ids))[:_PILOT_SAMPLES]
    candidates = [search.candidates(sample, reduced[sample], n_levels) for sample in pilot]
    exact = [exact_distances.of(sample, candidates[sample].rows) for sample in pilot]
    n_useful = _useful_levels(candidates, exact, neighbours, n_levels)
    for sample in range(len(ids))[_PILOT_SAMPLES:]:
        candidates.append(search.candidates(sample, reduced[sample], n_useful))
        exact.append(exact_distances.of(sample, candidates[sample].rows))
    return Evidence(
        samples=sample_keys(ids),
        starts=np.cumsum([0, *(len(each.rows) for each in candidates)], dtype=np.int64),
        rows=_joined([each.rows for each in candidates]).astype(np.uint32),
        reduced=_joined([each.reduced for each in candidates]).astype(np.float32),
        exact=_joined(exact).astype(np.float64),
        first=_joined([each.first for each in candidates]).astype(np.uint8),
        seconds=np.array([clock.mean for clock in search.clocks]),
        row_seconds=np.array([_row_seconds(reader, queries, candidates[: len(pilot)], metric)]),
    )


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0)


class _SampleSearch:
    """Searches one shard with samples, and measures the time of each level."""

    def __init__(self, reader: ShardReader, own_rows: Sequence[int | None]) -> None:
        self._reader = reader
        self._own_rows = own_rows
        self._entries = reader.entry.search_k
        self.clocks = [_Clock() for _ in self._entries]

    def candidates(self, sample: int, query: list[float], n_levels: int) -> _Candidates:
        """Search at the first levels; the candidates come nearest first."""
        by_level = []
        own = self._own_rows[sample]
        for entries, clock in zip(self._entries[:n_levels], self.clocks, strict=False):
            with clock.running():
                rows, reduced = self._reader.candidates(query, entries=entries, most=MAX_RERANK + 1)
            others = slice(None) if own is None else rows != own
            by_level.append((rows[others][:MAX_RERANK], reduced[others][:MAX_RERANK]))
        rows = np.concatenate([rows for rows, _ in by_level])
        reduced = np.concatenate([reduced for _, reduced in by_level])
        levels = np.repeat(np.arange(len(by_level)), [len(rows) for rows, _ in by_level])
        unique, first_places = np.unique(rows, return_index=True)
        order = np.lexsort((unique, reduced[first_places]))
        return _Candidates(unique[order], reduced[first_places][order], levels[first_places][order])


def _useful_levels(
    candidates: Sequence[_Candidates],
    exact: Sequence[FloatArray],
    neighbours: Neighbours,
    n_levels: int,
) -> int:
    """Return how many levels there are up to the last that brings more hits at some k."""
    useful = 1
    for k in MEASURED_KS:
        hits = np.zeros(n_levels)
        for sample, (of_sample, measured) in enumerate(zip(candidates, exact, strict=True)):
            is_hit = measured <= neighbours.distances[sample, k - 1]
            for level in range(n_levels):
                hits[level] += min(k, int(is_hit[of_sample.first <= level][:MAX_RERANK].sum()))
        gains = np.flatnonzero(np.diff(hits) > _MIN_GAIN * k * len(candidates))
        useful = max(useful, *(int(level) + 2 for level in gains), 1)
    return useful


class _ExactDistances:
    """Exact distances of a shard's rows to samples, as far as a sample's neighbours reach."""

    def __init__(
        self,
        reader: ShardReader,
        queries: npt.NDArray[np.float32],
        neighbours: Neighbours,
        metric: str,
    ) -> None:
        self._reader = reader
        self._queries = queries
        self._neighbours = neighbours
        self._metric = metric
        self._keys = sample_keys(reader.ids.table().column("image_id").to_pylist())

    def of(self, sample: int, rows: npt.NDArray[np.int64]) -> FloatArray:
        """Return distances to one sample, infinite where rows cannot be hits.

        Recall is counted within the radius up to which the neighbours are complete.
        """
        neighbour_distances = self._neighbours.distances[sample]
        last = neighbour_distances[_MOST_HITS - 1]
        if np.isfinite(last) and last == self._neighbours.radius[sample]:
            # Rows that are not among the stored neighbours may be as far as the last of them.
            return distances(self._queries[sample], self._reader.rows_at(rows), self._metric)
        measured = np.full(len(rows), np.inf)
        count = int(np.isfinite(neighbour_distances).sum())
        if count:
            order = np.argsort(self._neighbours.keys[sample, :count])
            keys, wanted = self._neighbours.keys[sample, order], self._keys[rows]
            places = np.minimum(np.searchsorted(keys, wanted), count - 1)
            is_neighbour = keys[places] == wanted
            measured[is_neighbour] = neighbour_distances[order[places[is_neighbour]]]
        return measured


def _row_seconds(
    reader: ShardReader,
    queries: npt.NDArray[np.float32],
    candidates: Sequence[_Candidates],
    metric: str,
) -> float:
    """Return the time to re-rank one row in a search for ten."""
    clock = _Clock()
    for query, of_sample in zip(queries, candidates, strict=False):
        rows = of_sample.rows[:_MOST_HITS]
        with clock.running(len(rows)):
            nearest(query, reader.rows_at(rows), metric, 10)
    return clock.mean
