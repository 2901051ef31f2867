"""What the trees of one shard find for the sample queries, at each level of effort.

A shard is immutable, so this is collected once, where the shard is built. Annoy gathers rows in an
order that does not depend on how many are asked for: the rows of a lower level are among those of a
higher one, and one list with the level at which each row first appears tells about all levels. Rows
that die later are left out when recall is measured (`pool3.index.recall`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from pool3.distances import FloatArray, distances
from pool3.errors import InvalidIndex
from pool3.index.curve import MEASURED_KS
from pool3.index.manifest import ShardEntry
from pool3.index.reduction import Reduction, tree_query
from pool3.index.sample_picker import Keys, sample_keys
from pool3.index.samples import Neighbours
from pool3.index.shard_reader import ShardReader

FORMAT_VERSION = 1

#: The deepest re-ranking that is measured: so many rows of each shard are kept for each level.
MAX_RERANK = 400

# Leaf entries over all shards. Measured on 100,000 clustered vectors of 2048 numbers with 50 trees,
# re-ranking 100: recall@10 is 1.000 from 1,000 on.
_FIRST_LEVEL = 250
_LAST_LEVEL = 64_000

# So many samples are searched with at all levels. Where not even one in a thousand of their nearest
# rows is new at a level and all deeper ones, the other samples do without these, which take most of
# the time.
_PILOT = 50
_NEWS = 1e-3
_WATCHED = max(MEASURED_KS)


def levels(rows: int, n_trees: int) -> tuple[int, ...]:
    """Return the levels of effort at which an index is measured.

    Parameters
    ----------
    rows
        Of the whole index.
    n_trees
        Of each shard.

    Returns
    -------
    tuple of int
        Leaf entries over all shards, ascending; the last is everything where that is no more than
        the deepest level.

    Examples
    --------
    >>> levels(100, 10), len(levels(1_000_000, 50))
    ((250, 500, 1000), 9)
    """
    everything = max(1, rows * n_trees)
    doubling = [_FIRST_LEVEL << step for step in range(20) if _FIRST_LEVEL << step <= _LAST_LEVEL]
    return (*(level for level in doubling if level < everything), *_if_small(everything))


def _if_small(everything: int) -> tuple[int, ...]:
    return (everything,) if everything <= _LAST_LEVEL else ()


def shard_search_k(totals: Sequence[int], shard_rows: int, total_rows: int) -> tuple[int, ...]:
    """Return a shard's part of levels: by its rows, rounded up.

    Examples
    --------
    >>> shard_search_k((250, 500), 10, 100)
    (25, 50)
    """
    return tuple(-(-level * shard_rows // total_rows) for level in totals)


def added_search_k(base: Sequence[ShardEntry], rows: int) -> tuple[int, ...]:
    """Return what a shard that is added later states: as much for a row as the base's shards do.

    Parameters
    ----------
    base
        Shards that state their levels already; those without rows do not count.
    rows
        Of the added shard.
    """
    filled = [shard for shard in base if shard.rows]
    totals = [sum(level) for level in zip(*(shard.search_k for shard in filled), strict=True)]
    return shard_search_k(totals, rows, sum(shard.rows for shard in filled))


@dataclass(frozen=True)
class Evidence:
    """What one shard finds for each sample.

    Attributes
    ----------
    samples
        uint64, (s,): `sample_key` of each sample.
    starts
        int64, (s + 1,): where each sample's part of the next four begins.
    rows
        uint32: rows of the shard, nearest in the tree's space first; at each level, the nearest
        `MAX_RERANK` of those that it gathers are among them.
    reduced
        float32: their distances in the tree's space.
    exact
        float64: their distances as a person reads them; infinite where a row is not among the
        neighbours that are known of the sample.
    first
        uint8: the first level that gathers them.
    seconds
        float64, (levels,): of one core, for the candidates of one query.
    row_seconds
        float64, (1,): of one core, to measure one row exactly.
    """

    samples: Keys
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.uint32]
    reduced: npt.NDArray[np.float32]
    exact: FloatArray
    first: npt.NDArray[np.uint8]
    seconds: FloatArray
    row_seconds: FloatArray

    def to_bytes(self) -> bytes:
        """Serialise as safetensors."""
        facts = json.dumps({"format_version": FORMAT_VERSION})
        return bytes(save_tensors(dict(vars(self)), metadata={"pool3": facts}))

    @classmethod
    def from_bytes(cls, data: bytes) -> Evidence:
        """Read what `to_bytes` wrote.

        Raises
        ------
        InvalidIndex
            When it is something else.
        """
        try:
            evidence = cls(**load_tensors(data))
        except (SafetensorError, TypeError) as error:
            raise InvalidIndex(f"this is no evidence of a shard: {error}") from error
        lengths = {len(evidence.rows), len(evidence.reduced), len(evidence.exact)}
        lengths |= {len(evidence.first), int(evidence.starts[-1])}
        if len(lengths) != 1 or len(evidence.starts) != len(evidence.samples) + 1:
            raise InvalidIndex(f"the parts of a shard's evidence differ in length: {lengths}")
        return evidence


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
        The samples' exact neighbours in this shard (`pool3.index.samples.exact_part`).
    entries
        Leaf entries of each level in this shard, ascending (`ShardEntry.search_k`).
    metric
        The index's.
    """
    search = _SampleSearch(reader, [reader.find(image_id) for image_id in ids], entries)
    asked = [tree_query(short, metric=metric) for short in reduction.reduce(queries)]
    found = [search.found(at, asked[at], len(entries)) for at in range(len(ids))[:_PILOT]]
    n_useful = _useful_levels(found, len(entries))
    found += [search.found(at, asked[at], n_useful) for at in range(len(ids))[_PILOT:]]
    row_clock = _Clock()
    for query, near in zip(queries[:_PILOT], found, strict=False):
        rows = near.rows[:_WATCHED]
        with row_clock.running(len(rows)):
            distances(query, reader.rows_at(rows), metric)
    return Evidence(
        samples=sample_keys(ids),
        starts=np.cumsum([0, *(len(near.rows) for near in found)], dtype=np.int64),
        rows=_joined([near.rows for near in found]).astype(np.uint32),
        reduced=_joined([near.reduced for near in found]).astype(np.float32),
        exact=_joined(list(_exact(reader, queries, part, found, metric))).astype(np.float64),
        first=_joined([near.first for near in found]).astype(np.uint8),
        seconds=np.array([clock.mean for clock in search.clocks]),
        row_seconds=np.array([row_clock.mean]),
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

    def found(self, sample: int, asked: npt.NDArray[np.float32], n_levels: int) -> _Found:
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


def _useful_levels(found: Sequence[_Found], n_levels: int) -> int:
    """Return how many levels there are up to the last that brings news among the nearest rows."""
    useful = 1
    for level in range(1, n_levels):
        seen = [near.first[near.first <= level][:_WATCHED] for near in found]
        if found and np.mean([(first == level).mean() for first in seen if len(first)]) > _NEWS:
            useful = level + 1
    return useful


def _exact(
    reader: ShardReader,
    queries: npt.NDArray[np.float32],
    part: Neighbours,
    found: Sequence[_Found],
    metric: str,
) -> Iterator[FloatArray]:
    """Give the distances of the rows that were found; infinite where they cannot be hits.

    Recall is counted within the radius up to which neighbours are known, and these were measured.
    """
    keys = sample_keys(reader.ids.table().column("image_id").to_pylist())
    for at, near in enumerate(found):
        known = int(part.known[at])
        if known >= _WATCHED and part.distances[at, _WATCHED - 1] == part.radius[at]:
            # Rows beyond those that are known may be just as far.
            yield distances(queries[at], reader.rows_at(near.rows), metric)
            continue
        order = np.argsort(part.keys[at, :known])
        sorted_keys = part.keys[at, order]
        wanted = keys[near.rows]
        places = np.minimum(np.searchsorted(sorted_keys, wanted), max(0, known - 1))
        hit = sorted_keys[places] == wanted if known else np.zeros(len(wanted), dtype=np.bool_)
        measured = np.full(len(wanted), np.inf)
        measured[hit] = part.distances[at, order[places[hit]]]
        yield measured
