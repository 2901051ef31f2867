"""Measures recall on executors: each task searches one shard with all sample queries.

A shard that has its evidence is not opened again; after a delta only the new shards are searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from pool3.index.format.entries import IDS
from pool3.index.recall.measure import search_shard
from pool3.index.recall.picker import SamplePicker
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.stored import open_rows, open_vectors
from pool3.index.shards.tombstones import live_mask
from pool3.index.snapshots.snapshot import Snapshot
from pool3.vectors.distances import FloatArray
from udfs.tasks import Batches, Broadcast, TaskFunction, shards_of, summary

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class SampleSearch:
    """Sample queries, and the snapshot-to-be whose shards are searched with them; broadcast.

    Attributes
    ----------
    snapshot
        The snapshot-to-be.
    ids
        s ids.
    queries
        float32, (s, d).
    within
        float64, (s,): the largest distance of each sample's neighbours in the base snapshot; rows
        of an added shard that are farther away are no neighbours. None if all shards are measured.
    """

    snapshot: Snapshot
    ids: Sequence[str]
    queries: npt.NDArray[np.float32]
    within: FloatArray | None


def search_samples(search: Broadcast[SampleSearch]) -> TaskFunction:
    """Return the function that searches shards with the samples and stores their evidence.

    Its summaries are ``{"number", "file"}``, with the `Neighbours` among the shard's rows as bytes.
    """

    def run(batches: Batches) -> Batches:
        return stored_evidence(batches, search.value)

    return run


def stored_evidence(batches: Batches, search: SampleSearch) -> Batches:
    """Search shards with the samples, store the evidence, and yield a summary of each shard."""
    for entry in shards_of(batches):
        reader = ShardReader(search.snapshot.shard(entry.number))
        file, neighbours = search_shard(
            search.snapshot, reader, search.ids, search.queries, within=search.within
        )
        yield summary({"number": entry.number, "file": asdict(file)}, neighbours.to_bytes())


def pick_stored(index_uri: str, dimension: int) -> TaskFunction:
    """Return the function that picks samples of the live rows of shards.

    Its summary's payload is a `SamplePicker`.
    """

    def run(batches: Batches) -> Batches:
        yield summary({}, picked_samples(batches, index_uri, dimension).to_bytes())

    return run


def picked_samples(batches: Batches, index_uri: str, dimension: int) -> SamplePicker:
    """Pick samples of the live rows of shards."""
    picker = SamplePicker(dimension)
    for entry in shards_of(batches):
        live = live_mask(index_uri, entry)
        ids = open_rows(index_uri, entry, IDS).table().column("image_id")
        vectors = open_vectors(index_uri, entry)
        for start in range(0, entry.rows, _ROWS_AT_ONCE):
            rows = start + np.flatnonzero(live[start : start + _ROWS_AT_ONCE])
            picker.add(ids.take(rows).to_pylist(), vectors[rows].astype(np.float32))
    return picker
