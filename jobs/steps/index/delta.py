"""What changed in a feature table taken into an index: build-index run again.

New rows become shards of their own; rows that changed or went get tombstones where they are.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from pyspark.sql import SparkSession

from jobs.runtime.report import Timed
from jobs.steps.index.build import (
    BuildResult,
    assigned_rows,
    full_build,
    planned_shards,
    shard_settings,
)
from jobs.steps.index.changes import Changes, find_changes
from jobs.steps.index.metadata import refresh_from_table, refresh_same
from jobs.steps.index.plan import BuildPlan
from jobs.steps.index.recall import pick_samples, with_recall
from jobs.steps.index.shards import BuiltShards, built_shards
from pool3.features.table import FeatureTable
from pool3.features.vectors import SkippedRows
from pool3.index.changes import table_id
from pool3.index.format.entries import TableEntry
from pool3.index.format.manifest import Manifest
from pool3.index.recall.measure import stored_samples
from pool3.index.shards.tombstones import add_tombstones_all, renumbered
from pool3.index.snapshots.snapshot import Snapshot, open_snapshot


def build_snapshot(spark: SparkSession, plan: BuildPlan, timed: Timed) -> BuildResult:
    """Take in what changed, or build from the whole table where that does not do."""
    reason, base = plan.why_full_build(), plan.base
    if reason is None and base is not None:
        with timed("compare"):
            changes = find_changes(spark, plan.table, base, plan.index)
        if not (
            plan.config.vectors_dtype == "auto" and base.vectors_dtype == "float16" and changes.wide
        ):
            result = delta_build(spark, plan, base, changes, timed)
            changes.rows.unpersist()
            return result
        reason = "float16 cannot hold a vector that is new"
    return full_build(spark, plan, reason or "", timed)


def delta_build(
    spark: SparkSession, plan: BuildPlan, base: Manifest, changes: Changes, timed: Timed
) -> BuildResult:
    """Store what the next snapshot has besides its base."""
    return BuildResult(
        manifest=_delta_manifest(spark, plan, base, changes, timed),
        full_build=None,
        n_ok=changes.n_added,
        n_skipped=base.rows - changes.n_deleted,
        n_gone=changes.n_deleted - changes.n_moved,
        skipped_rows=changes.skipped_rows,
    )


def _delta_manifest(
    spark: SparkSession, plan: BuildPlan, base: Manifest, changes: Changes, timed: Timed
) -> Manifest | None:
    """Return the manifest of the base with the changes; None where nothing changed."""
    opened = open_snapshot(plan.index, base.snapshot_id)
    carried_on = refresh_same(spark, plan, base.shards, changes)
    if changes.n_deleted:
        carried_on = add_tombstones_all(
            plan.index,
            carried_on,
            changes.deleted(),
            snapshot=plan.next.number,
            unique=uuid.uuid4().hex,
        )
    with timed("build"):
        built = _added_shards(spark, plan, opened, changes)
    new = [built.shards[number] for number in sorted(built.shards)]
    shards, metadata = refresh_from_table(spark, plan, renumbered([*carried_on, *new]))
    if tuple(shards) == base.shards:
        return None
    rows = sum(entry.live for entry in shards)
    manifest = plan.next.added(
        base,
        shards,
        table=TableEntry(uri=plan.table.uri, version=plan.table.version),
        table_id=table_id(plan.table),
        metadata=metadata,
        counts=_counts(plan.table, rows, changes.skipped_rows),
        **_unseen(base, built, changes.n_added),
    )
    if not (changes.n_added or changes.n_deleted):
        return manifest
    with timed("recall"):
        snapshot = Snapshot.of(plan.index, manifest, opened.reduction)
        return _measured(spark, snapshot, opened, changes)


def _measured(
    spark: SparkSession, snapshot: Snapshot, base: Snapshot, changes: Changes
) -> Manifest:
    """Measure recall again: the new shards only, where the base was measured."""
    samples = stored_samples(base)
    if samples is None:
        picked = pick_samples(spark, snapshot.uri, snapshot.manifest)
        return with_recall(spark, snapshot, picked=picked)
    return with_recall(spark, snapshot, before=samples, deleted_ids=changes.deleted_ids())


def _added_shards(
    spark: SparkSession, plan: BuildPlan, base: Snapshot, changes: Changes
) -> BuiltShards:
    """Build shards of the rows that are new."""
    if not changes.n_added:
        return BuiltShards(shards={}, explained=0, variance=0)
    reduction, dtype = base.reduction, base.manifest.vectors_dtype
    n_shards = planned_shards(plan, changes.n_added, reduction, dtype, None)
    rows = assigned_rows(spark, plan, changes.files, n_shards)
    settings = replace(
        shard_settings(plan, dtype), first_number=len(base.manifest.shards), unseen=True
    )
    return built_shards(changes.added_among(rows), settings, reduction, n_shards)


def _unseen(base: Manifest, built: BuiltShards, n_added: int) -> dict[str, Any]:
    """Return how many rows the PCA was not fitted to, and how much of their variance it keeps."""
    if not n_added:
        return {}
    rows = base.unseen_rows + n_added
    share = built.explained / built.variance if built.variance else 1.0
    before = base.unseen_explained_variance or 0.0
    mean = (before * base.unseen_rows + share * n_added) / rows
    return {"unseen_rows": rows, "unseen_explained_variance": min(1.0, mean)}


def _counts(table: FeatureTable, rows: int, skipped_rows: SkippedRows) -> dict[str, int]:
    """Return the rows of the table by what became of them, as far as that is known."""
    if table.foreign:
        return {"indexed": rows, "skipped": skipped_rows.skipped, **skipped_rows.errors}
    return {"indexed": rows, "skipped": sum(file.rows for file in table.files) - rows}
