"""What changed in a feature table taken into an index: the driver's side of build-index run again.

New rows become shards of their own; rows that changed or went are buried where they are.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from jobs.steps.index.build import Build, count_left_out, dealt, planned, shard_settings
from jobs.steps.index.changes import Changes
from jobs.steps.index.metadata import refresh_from_table, refresh_same
from jobs.steps.index.recall import pick_samples, with_recall
from jobs.steps.index.shards import Built, built_shards
from pool3.features.table import FeatureTable
from pool3.features.vectors import SkippedRows
from pool3.index.changes import table_id
from pool3.index.format.manifest import Manifest, TableEntry
from pool3.index.recall.measure import stored_samples
from pool3.index.reduction import Reduction
from pool3.index.shards.tombstones import add_tombstones_all, numbered
from pool3.index.snapshots.publication import utc_now
from pool3.index.snapshots.snapshot import open_snapshot


def delta_build(build: Build, base: Manifest, changes: Changes) -> Manifest | None:
    """Store what the next snapshot has besides its base; None where nothing changed."""
    report = build.report
    count_left_out(report, changes.skipped_rows, ok=changes.n_added)
    report.counts.update(skipped=base.rows - changes.n_dead, gone=changes.n_dead - changes.n_moved)
    _, _, reduction = open_snapshot(build.index, base.snapshot_id)
    kept = refresh_same(build, base.shards, changes)
    if changes.n_dead:
        unique = uuid.uuid4().hex
        kept = add_tombstones_all(
            build.index, kept, changes.dead(), snapshot=build.snapshot, unique=unique
        )
    with report.timed("build"):
        built = _added(build, base, reduction, changes)
    new = [built.shards[number] for number in sorted(built.shards)]
    shards, metadata = refresh_from_table(build, numbered([*kept, *new]))
    if tuple(shards) == base.shards:
        return None
    manifest = replace(
        base,
        snapshot_id=build.snapshot,
        parent=build.parent,
        base=base.snapshot_id,
        created_at=utc_now(),
        run_id=report.run_id,
        table=TableEntry(uri=build.table.uri, version=build.table.version),
        table_id=table_id(build.table),
        metadata=metadata,
        rows=sum(entry.live for entry in shards),
        shards=tuple(shards),
        **_unseen(base, built, changes.n_added),
    )
    manifest = replace(manifest, counts=_counts(build.table, manifest.rows, changes.skipped_rows))
    if not (changes.n_added or changes.n_dead):
        return manifest
    with report.timed("recall"):
        return _measured(build, base, manifest, reduction, changes)


def _measured(
    build: Build, base: Manifest, manifest: Manifest, reduction: Reduction, changes: Changes
) -> Manifest:
    """Measure recall again: the new shards only, where the base was measured."""
    samples = stored_samples(build.index, base)
    if samples is None:
        picked = pick_samples(build.spark, build.index, manifest)
        return with_recall(build.spark, build.index, manifest, reduction, picked=picked)
    return with_recall(
        build.spark,
        build.index,
        manifest,
        reduction,
        before=samples,
        dead_ids=changes.dead_ids(),
    )


def _added(build: Build, base: Manifest, reduction: Reduction, changes: Changes) -> Built:
    """Build shards of the rows that are new."""
    if not changes.n_added:
        return Built(shards={}, kept=0, whole=0)
    n_shards = planned(build, changes.n_added, reduction, base.vectors_dtype, None)
    rows = dealt(build, changes.files, n_shards)
    settings = replace(
        shard_settings(build, base.vectors_dtype), first_number=len(base.shards), unseen=True
    )
    return built_shards(changes.added_among(rows), settings, reduction, n_shards)


def _unseen(base: Manifest, built: Built, n_added: int) -> dict[str, Any]:
    """Tell how many rows the PCA was not fitted to, and how much of their variance it keeps."""
    rows = base.unseen_rows + n_added
    if not n_added:
        return {}
    share = built.kept / built.whole if built.whole else 1.0
    before = base.unseen_explained_variance or 0.0
    mean = (before * base.unseen_rows + share * n_added) / rows
    return {"unseen_rows": rows, "unseen_explained_variance": min(1.0, mean)}


def _counts(table: FeatureTable, rows: int, skipped_rows: SkippedRows) -> dict[str, int]:
    """Return the rows of the table by what became of them, as far as that is known."""
    if table.foreign:
        return {"indexed": rows, "skipped": skipped_rows.skipped, **skipped_rows.errors}
    return {"indexed": rows, "skipped": sum(file.rows for file in table.files) - rows}
