"""Recall measured where the shards are: each task searches one shard with all sample queries.

A shard that has its evidence already is not opened again: after a delta only the new shards are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.index.format.manifest import IDS
from pool3.index.recall.measure import search_shard
from pool3.index.recall.picker import SamplePicker
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.stored import open_rows, open_vectors
from pool3.index.shards.tombstones import live_mask
from pool3.index.snapshots.snapshot import Snapshot
from pool3.vectors.distances import FloatArray
from udfs.tasks import Batches, TaskFunction, shards_of, summary

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class SampleSearch:
    """The samples, and the snapshot-to-be whose shards are searched with them; broadcast.

    `within` is how far each sample's neighbours in the base snapshot lie at most, float64 (s,):
    what lies beyond in an added shard is none. None where all shards are measured.
    """

    snapshot: Snapshot
    ids: Sequence[str]
    queries: npt.NDArray[np.float32]
    within: FloatArray | None


def search_samples(search: Any) -> TaskFunction:
    """Return the function that stores the evidence of some shards.

    Its summaries are ``{"number", "file"}``, with the `Neighbours` among the shard's rows as bytes.

    Parameters
    ----------
    search
        Spark broadcast of a `SampleSearch`.
    """

    def run(batches: Batches) -> Batches:
        samples: SampleSearch = search.value
        snapshot = samples.snapshot
        for entry in shards_of(batches):
            reader = ShardReader(snapshot.shard(entry.number))
            file, neighbours = search_shard(
                snapshot, reader, samples.ids, samples.queries, within=samples.within
            )
            yield summary({"number": entry.number, "file": asdict(file)}, neighbours.to_bytes())

    return run


def pick_stored(index_uri: str, dimension: int) -> TaskFunction:
    """Return the function that picks samples of the live rows of some shards."""

    def run(batches: Batches) -> Batches:
        picker = SamplePicker(dimension)
        for entry in shards_of(batches):
            live = live_mask(index_uri, entry)
            ids = open_rows(index_uri, entry, IDS).table().column("image_id")
            vectors = open_vectors(index_uri, entry)
            for start in range(0, entry.rows, _ROWS_AT_ONCE):
                rows = start + np.flatnonzero(live[start : start + _ROWS_AT_ONCE])
                picker.add(ids.take(rows).to_pylist(), vectors[rows].astype(np.float32))
        yield summary({}, picker.to_bytes())

    return run
