"""Shards rewritten without some pictures, and the files that held them deleted."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from pyspark.sql import SparkSession

from jobs.runtime.report import Report
from jobs.steps.index.find_ids import files_with_ids
from jobs.steps.index.recall import pick_samples, with_recall
from jobs.steps.index.shards import built_shards, stored_metadata, stored_rows
from pool3.errors import Pool3Error
from pool3.features.vacuum import keep_since
from pool3.index.format.manifest import EVIDENCE, IDS, Manifest, ShardEntry
from pool3.index.recall.measure import stored_samples
from pool3.index.reduction import Reduction
from pool3.index.shards.tombstones import numbered
from pool3.index.snapshots.publication import newest_snapshot, next_snapshot, utc_now
from pool3.index.snapshots.retention import Holdings, delete_expired, holdings
from udfs.shards import ShardSettings


def without(
    spark: SparkSession,
    index: str,
    base: Manifest,
    reduction: Reduction,
    ids: Set[str],
    found: Set[str],
    run_id: str,
) -> Manifest:
    """Store what the next snapshot has in the place of the files that hold some ids."""
    parent = newest_snapshot(index)
    snapshot = next_snapshot(parent)
    holding = [entry for entry in base.shards if entry.rows and entry.files[IDS].path in found]
    rewritten = _rewritten(spark, index, base, reduction, holding, ids, snapshot)
    entries = [
        entry if entry not in holding else rewritten.get(entry.number) for entry in base.shards
    ]
    shards = numbered([_unmeasured(entry) for entry in entries if entry is not None])
    manifest = replace(
        base,
        snapshot_id=snapshot,
        parent=parent,
        base=base.snapshot_id,
        created_at=utc_now(),
        run_id=run_id,
        rows=sum(entry.live for entry in shards),
        shards=shards,
        samples=None,
        recall=None,
    )
    before = stored_samples(index, base)
    if before is None:
        picked = pick_samples(spark, index, manifest)
    else:
        kept = before.without(ids)
        picked = (list(kept.ids), kept.queries)
    return with_recall(spark, index, manifest, reduction, picked=picked)


def _rewritten(
    spark: SparkSession,
    index: str,
    base: Manifest,
    reduction: Reduction,
    holding: Sequence[ShardEntry],
    ids: Set[str],
    snapshot: int,
) -> dict[int, ShardEntry]:
    """Store shards without some rows and without dead ones; one that is left empty is not there."""
    if not holding:
        return {}
    rows = stored_rows(spark, index, holding, without=ids)
    settings = ShardSettings(
        index_uri=index,
        n_trees=base.n_trees,
        seed=base.seed,
        vectors_dtype=base.vectors_dtype,
        added_in=snapshot,
        carried=stored_metadata(index, holding),
    )
    built = built_shards(rows, settings, reduction, len(base.shards)).shards
    added_in = {entry.number: entry.added_in for entry in holding}
    return {number: replace(entry, added_in=added_in[number]) for number, entry in built.items()}


def _unmeasured(entry: ShardEntry) -> ShardEntry:
    """Leave out what was measured with samples that may be among the forgotten pictures."""
    files = {kind: file for kind, file in entry.files.items() if kind != EVIDENCE}
    return replace(entry, files=files, search_k=())


def delete(
    before: Holdings, after: Holdings, found: Set[str], snapshot: int, report: Report
) -> None:
    """Expire the snapshots that name files with forgotten pictures, and delete what nobody names.

    Only what was there before the new snapshot was published: a run that began before that cannot
    publish any more, and what a later one writes is not listed.
    """
    expired = {
        number
        for number, manifest in after.manifests.items()
        if number != snapshot and found & {file.path for file in manifest.files()}
    }
    listed = {path: after.objects[path] for path in before.objects if path in after.objects}
    manifests = {f"snapshots/{number:020d}/manifest.json" for number in after.manifests}
    objects = {
        path: at for path, at in after.objects.items() if path in manifests or path in listed
    }
    stay = set(after.manifests) - expired
    deleted = delete_expired(replace(after, objects=objects), stay, before=keep_since(0))
    report.details.update(
        expired=sorted(expired), freed={"files": len(deleted)}, files_with_them=len(found)
    )


def prove(spark: SparkSession, index: str, ids: Set[str]) -> None:
    """Look for the ids in every file that is left.

    Raises
    ------
    Pool3Error
        When one holds them, or cannot be read.
    """
    left = files_with_ids(spark, holdings(index), ids)
    if left:
        raise Pool3Error(
            f"expected no file of {index} to hold the pictures, found {len(left)} that do or "
            f"cannot be read, {min(left)} for one; another run may have written meanwhile: run "
            "forget again"
        )
