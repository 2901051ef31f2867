"""Shards rewritten without some pictures, and the files that held them deleted."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from pyspark.sql import SparkSession

from jobs.steps.index.find_ids import files_with_ids
from jobs.steps.index.recall import pick_samples, with_recall
from jobs.steps.index.shards import built_shards, stored_metadata, stored_rows
from pool3.errors import Pool3Error
from pool3.features.vacuum import keep_since
from pool3.index.format.entries import EVIDENCE, IDS, ShardEntry
from pool3.index.format.manifest import Manifest
from pool3.index.recall.measure import stored_samples
from pool3.index.shards.tombstones import renumbered
from pool3.index.snapshots.next import NextSnapshot
from pool3.index.snapshots.retention import IndexListing, delete_expired, list_index
from pool3.index.snapshots.snapshot import Snapshot
from udfs.shards import ShardSettings


def rewrite_without(
    spark: SparkSession,
    base: Snapshot,
    upcoming: NextSnapshot,
    ids: Set[str],
    files: Set[str],
) -> Manifest:
    """Store shards without some pictures in the place of those that hold them.

    Parameters
    ----------
    ids
        Of the pictures.
    files
        Paths of the files that hold any of them.
    """
    shards = [
        entry for entry in base.manifest.shards if entry.rows and entry.files[IDS].path in files
    ]
    rewritten = _rewritten(spark, base, shards, ids, upcoming.number)
    entries = [
        rewritten.get(entry.number) if entry in shards else entry for entry in base.manifest.shards
    ]
    manifest = upcoming.without(
        base.manifest,
        renumbered([_unmeasured(entry) for entry in entries if entry is not None]),
    )
    before = stored_samples(base)
    if before is None:
        picked = pick_samples(spark, base.uri, manifest)
    else:
        remaining = before.without(ids)
        picked = (list(remaining.ids), remaining.queries)
    snapshot = Snapshot.of(base.uri, manifest, base.reduction)
    return with_recall(spark, snapshot, picked=picked)


def _rewritten(
    spark: SparkSession,
    base: Snapshot,
    shards: Sequence[ShardEntry],
    ids: Set[str],
    number: int,
) -> dict[int, ShardEntry]:
    """Store shards without some rows and without deleted ones; an empty one is left out."""
    if not shards:
        return {}
    rows = stored_rows(spark, base.uri, shards, without=ids)
    settings = ShardSettings.like(base, added_in=number, carried=stored_metadata(base.uri, shards))
    built = built_shards(rows, settings, base.reduction, len(base.manifest.shards)).shards
    added_in = {entry.number: entry.added_in for entry in shards}
    return {number: replace(entry, added_in=added_in[number]) for number, entry in built.items()}


def _unmeasured(entry: ShardEntry) -> ShardEntry:
    """Leave out what was measured with samples that may be among the forgotten pictures."""
    files = {kind: file for kind, file in entry.files.items() if kind != EVIDENCE}
    return replace(entry, files=files, search_k=())


def delete_files(
    before: IndexListing, after: IndexListing, files: Set[str], number: int
) -> dict[str, object]:
    """Expire the snapshots that name files with forgotten pictures, and delete what nobody names.

    Only what was there before the new snapshot was published: a run that began before that cannot
    publish any more, and what a later one writes is not listed.

    Returns
    -------
    dict
        What ``expired``, what was ``freed``, and ``files_with_them``, for the report.
    """
    expired = {
        snapshot
        for snapshot, manifest in after.manifests.items()
        if snapshot != number and files & {file.path for file in manifest.files()}
    }
    listed = {path: after.objects[path] for path in before.objects if path in after.objects}
    manifests = {after.manifest_path(snapshot) for snapshot in after.manifests}
    objects = {
        path: item for path, item in after.objects.items() if path in manifests or path in listed
    }
    stay = set(after.manifests) - expired
    deleted = delete_expired(replace(after, objects=objects), stay, before=keep_since(0))
    return {
        "expired": sorted(expired),
        "freed": {"files": len(deleted)},
        "files_with_them": len(files),
    }


def require_forgotten(spark: SparkSession, index: str, ids: Set[str]) -> None:
    """Look for the ids in every file that is left.

    Raises
    ------
    Pool3Error
        When one holds them, or cannot be read.
    """
    remaining = files_with_ids(spark, list_index(index), ids)
    if remaining:
        raise Pool3Error(
            f"expected no file of {index} to hold the pictures, found {len(remaining)} that do or "
            f"cannot be read, {min(remaining)} for one; another run may have written meanwhile: "
            "run forget again"
        )
