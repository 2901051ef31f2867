"""Recall of a snapshot-to-be, measured by tasks over its shards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pyspark.sql import SparkSession

from jobs.steps.tasks import gather_shards
from pool3.index.format.entries import EVIDENCE, FileEntry
from pool3.index.format.json_fields import Fields
from pool3.index.format.manifest import Manifest
from pool3.index.recall.measure import with_curve, with_levels
from pool3.index.recall.picker import SamplePicker
from pool3.index.recall.samples import Neighbours, SampleQueries, merge_neighbours, update_samples
from pool3.index.snapshots.snapshot import Snapshot
from udfs.recall import SampleSearch, pick_stored, search_samples


def with_recall(
    spark: SparkSession,
    snapshot: Snapshot,
    *,
    picked: tuple[Sequence[str], npt.NDArray[np.float32]] | None = None,
    before: SampleQueries | None = None,
    deleted_ids: Collection[str] = (),
) -> Manifest:
    """Return a manifest with samples, evidence and recall curve; stores what it lacks of them.

    Parameters
    ----------
    snapshot
        The snapshot-to-be.
    picked
        The ids of new samples, and their vectors, float32, (s, d).
    before
        Else the samples of the base snapshot; its shards have their evidence, and state their
        levels.
    deleted_ids
        With `before`: ids of the rows that were deleted since.
    """
    if before is not None:
        picked = before.ids, before.queries
    manifest = snapshot.manifest
    if not manifest.rows or picked is None:
        return replace(manifest, samples=None, recall=None)
    manifest = with_levels(manifest, remeasure=before is None)
    search = SampleSearch(
        snapshot=Snapshot.of(snapshot.uri, manifest, snapshot.reduction),
        ids=picked[0],
        queries=picked[1],
        within=None if before is None else before.neighbours.radius,
    )
    manifest, neighbours = _with_evidence(spark, search)
    if before is None:
        samples = SampleQueries(tuple(picked[0]), picked[1], merge_neighbours(neighbours))
    else:
        samples = update_samples(before, neighbours, deleted_ids)
    return with_curve(snapshot.uri, manifest, samples)


def _with_evidence(spark: SparkSession, search: SampleSearch) -> tuple[Manifest, list[Neighbours]]:
    """Collect the evidence of the shards that lack it; also the neighbours in each of them."""
    manifest = search.snapshot.manifest
    lacking = [entry for entry in manifest.shards if entry.rows and EVIDENCE not in entry.files]
    if not lacking:
        return manifest, []
    function = search_samples(spark.sparkContext.broadcast(search))
    tasks = gather_shards(spark, lacking, function, label="measuring recall")
    files = {task["number"]: FileEntry.read(Fields(task["file"], "a file")) for task in tasks}
    shards = tuple(
        replace(entry, files={**entry.files, EVIDENCE: files[entry.number]})
        if entry.number in files
        else entry
        for entry in manifest.shards
    )
    neighbours = [Neighbours.from_bytes(task["payload"]) for task in tasks]
    return replace(manifest, shards=shards), neighbours


def pick_samples(
    spark: SparkSession, index_uri: str, manifest: Manifest
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return samples of the live rows of shards, with their vectors as they are stored."""
    picker = SamplePicker(manifest.dimension)
    if not manifest.rows:
        return picker.picked()
    function = pick_stored(index_uri, manifest.dimension)
    for task in gather_shards(spark, manifest.shards, function, label="picking samples"):
        picker.merge(SamplePicker.from_bytes(task["payload"]))
    return picker.picked()
