"""Recall measured where the shards are: each task searches one shard with all sample queries.

A shard that has its evidence already is not opened again: after a delta only the new shards are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.index.format.manifest import IDS, Manifest
from pool3.index.recall.measure import search_shard
from pool3.index.recall.picker import SamplePicker
from pool3.index.reduction import Reduction
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.stored import open_rows, open_vectors
from pool3.index.shards.tombstones import live_mask
from pool3.vectors.distances import FloatArray
from udfs.tasks import Batches, TaskFunction, shards_of, summary

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a task needs to search a shard of a snapshot-to-be with the samples; broadcast.

    `within` is how far each sample's neighbours in the base snapshot are known, float64 (s,): what
    lies beyond in an added shard is no news. None where all shards are measured.
    """

    index_uri: str
    manifest: Manifest
    reduction: Reduction
    ids: Sequence[str]
    queries: npt.NDArray[np.float32]
    within: FloatArray | None


def search_samples(opened: Any) -> TaskFunction:
    """Return the function that stores the evidence of some shards.

    Its summaries are ``{"number", "file"}``, with the `Neighbours` among the shard's rows as bytes.

    Parameters
    ----------
    opened
        Spark broadcast of an `Opened`.
    """

    def run(batches: Batches) -> Batches:
        index: Opened = opened.value
        for entry in shards_of(batches):
            reader = ShardReader(index.index_uri, entry, index.manifest, index.reduction)
            file, part = search_shard(
                index.index_uri,
                reader,
                index.reduction,
                index.ids,
                index.queries,
                within=index.within,
            )
            yield summary({"number": entry.number, "file": asdict(file)}, part.to_bytes())

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
