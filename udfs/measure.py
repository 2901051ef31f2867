"""Recall measured where the shards are: each task searches one shard with all sample queries.

A shard that has its evidence already is not opened again: after a delta only the new shards are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark.sql import SparkSession

from pool3.distances import FloatArray
from pool3.index.fields import Fields
from pool3.index.manifest import EVIDENCE, IDS, FileEntry, Manifest
from pool3.index.recall_steps import curved, search_shard, with_levels
from pool3.index.reduction import Reduction
from pool3.index.sample_picker import SamplePicker
from pool3.index.samples import Neighbours, SampleQueries, merged_exact, updated
from pool3.index.shard_reader import ShardReader
from pool3.index.tombstones import live_mask
from udfs.index_files import open_rows, open_vectors, shard_frame, shards_of
from udfs.spread import Batches, TaskFunction, gather, summary

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


def with_recall(
    spark: SparkSession,
    index_uri: str,
    manifest: Manifest,
    reduction: Reduction,
    *,
    picked: tuple[Sequence[str], npt.NDArray[np.float32]] | None = None,
    before: SampleQueries | None = None,
    dead_ids: Collection[str] = (),
) -> Manifest:
    """Return a manifest with samples, evidence and recall curve; stores what it lacks of them.

    Parameters
    ----------
    manifest
        Of the snapshot-to-be.
    picked
        The ids of new samples, and their vectors, float32, (s, d).
    before
        Else the samples of the base snapshot; its shards have their evidence, and state their
        levels.
    dead_ids
        With `before`: ids of the rows that died since.
    """
    if before is not None:
        picked = before.ids, before.queries
    if not manifest.rows or picked is None:
        return replace(manifest, samples=None, recall=None)
    manifest = with_levels(manifest, anew=before is None)
    opened = Opened(
        index_uri=index_uri,
        manifest=manifest,
        reduction=reduction,
        ids=picked[0],
        queries=picked[1],
        within=None if before is None else before.neighbours.radius,
    )
    manifest, parts = _collected(spark, opened)
    if before is None:
        samples = SampleQueries(tuple(picked[0]), picked[1], merged_exact(parts))
    else:
        samples = updated(before, parts, dead_ids)
    return curved(index_uri, manifest, samples)


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


def _collected(spark: SparkSession, opened: Opened) -> tuple[Manifest, list[Neighbours]]:
    """Collect the evidence of the shards that lack it; also the neighbours in each of them."""
    lacking = [
        entry for entry in opened.manifest.shards if entry.rows and EVIDENCE not in entry.files
    ]
    if not lacking:
        return opened.manifest, []
    function = search_samples(spark.sparkContext.broadcast(opened))
    tasks = gather(shard_frame(spark, lacking), function, label="measuring recall")
    found = {task["number"]: FileEntry.read(Fields(task["file"], "a file")) for task in tasks}
    shards = tuple(
        replace(entry, files={**entry.files, EVIDENCE: found[entry.number]})
        if entry.number in found
        else entry
        for entry in opened.manifest.shards
    )
    parts = [Neighbours.from_bytes(task["payload"]) for task in tasks]
    return replace(opened.manifest, shards=shards), parts


def pick_samples(
    spark: SparkSession, index_uri: str, manifest: Manifest
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return samples of the live rows of shards, with their vectors as they are stored."""
    picker = SamplePicker(manifest.dimension)
    if not manifest.rows:
        return picker.picked()
    function = pick_stored(index_uri, manifest.dimension)
    for task in gather(shard_frame(spark, manifest.shards), function, label="picking samples"):
        picker.merge(SamplePicker.from_bytes(task["payload"]))
    return picker.picked()


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
