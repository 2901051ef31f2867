"""An index built from the whole of a feature table.

Two passes over the table: one adds up what PCA is fitted from, the other assigns the rows to
shards, each built by one task on its local disk and then stored.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession

from jobs.runtime.report import Timed
from jobs.steps.index.metadata import refresh_from_table
from jobs.steps.index.plan import BuildPlan
from jobs.steps.index.recall import with_recall
from jobs.steps.index.shards import built_shards, with_empty
from jobs.steps.tasks import gather_files, map_files
from pool3 import storage
from pool3.errors import UsageError
from pool3.features.vectors import SkippedRows
from pool3.index.changes import table_id
from pool3.index.format.entries import TableEntry
from pool3.index.format.manifest import Manifest
from pool3.index.reduction.gram import choose_dtype
from pool3.index.reduction.pca import Reduction, fit
from pool3.index.shards.sizing import ShardCosts, plan_shards
from pool3.index.snapshots.snapshot import Snapshot
from pool3.index.snapshots.store import store_reduction
from pool3.models import copy_model
from pool3.storage.tables import TableFile
from udfs.scan import Scanned, merged, scan_files
from udfs.shards import ShardSettings, assign_rows, row_schema

# Each scan task sends its sums to the driver, 34 MB at 2048 numbers, so one a core is enough.
MAX_SCAN_TASKS = 24

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a run made of its plan.

    Attributes
    ----------
    manifest
        Of the snapshot-to-be, all its files stored; None where nothing changed.
    full_build
        Why it was built from the whole table; None where only changes were taken in.
    n_ok, n_skipped, n_gone
        Rows that were indexed now, that were passed over or carried on, and that left the index.
    skipped_rows
        The rows of the table that cannot be indexed, by reason.
    """

    manifest: Manifest | None
    full_build: str | None
    n_ok: int
    n_skipped: int
    n_gone: int
    skipped_rows: SkippedRows


def full_build(spark: SparkSession, plan: BuildPlan, reason: str, timed: Timed) -> BuildResult:
    """Build all shards from the whole table."""
    log.info("building from the whole table: %s", reason)
    with timed("scan"):
        scanned = _scan(spark, plan)
    gram, skipped = scanned.gram, scanned.skipped_rows
    if gram.count == 0:
        raise UsageError(
            f"expected usable vectors of length {plan.dimension} in {plan.table.uri}, found none "
            f"({skipped_text(skipped)}); nothing can be indexed"
        )
    with timed("fit"):
        reduction = fit(gram)
    dtype = choose_dtype(gram, plan.config.vectors_dtype)
    n_shards = planned_shards(plan, gram.count, reduction, dtype, plan.config.n_shards)
    with timed("build"):
        rows = assigned_rows(spark, plan, plan.table.files, n_shards)
        built = built_shards(rows, shard_settings(plan, dtype), reduction, n_shards)
    manifest = _manifest(plan, scanned, reduction, dtype)
    manifest = replace(manifest, shards=with_empty(built, n_shards))
    with timed("recall"):
        snapshot = Snapshot.of(plan.index, manifest, reduction)
        manifest = with_recall(spark, snapshot, picked=scanned.picker.picked())
    shards, metadata = refresh_from_table(spark, plan, manifest.shards)
    return BuildResult(
        manifest=replace(manifest, shards=tuple(shards), metadata=metadata),
        full_build=reason,
        n_ok=gram.count,
        n_skipped=skipped.skipped,
        n_gone=0,
        skipped_rows=skipped,
    )


def _scan(spark: SparkSession, plan: BuildPlan) -> Scanned:
    metric, dimension = plan.config.metric, plan.dimension
    function = scan_files(plan.table, dimension=dimension, metric=metric)
    n_tasks = min(MAX_SCAN_TASKS, spark.sparkContext.defaultParallelism)
    tasks = gather_files(
        spark, plan.table.files, function, label="reading vectors", most_tasks=n_tasks
    )
    return merged(tasks, metric=metric, dimension=dimension)


def _manifest(plan: BuildPlan, scanned: Scanned, reduction: Reduction, dtype: str) -> Manifest:
    """Store reduction and model, and return the manifest, without shards yet."""
    config, rows, skipped = plan.config, scanned.gram.count, scanned.skipped_rows
    return plan.next.fresh(
        metric=config.metric,
        dimension=plan.dimension,
        reduction=store_reduction(
            plan.index, reduction, snapshot=plan.next.number, unique=uuid.uuid4().hex
        ),
        n_trees=config.n_trees,
        seed=config.seed,
        vectors_dtype=dtype,
        model_id=plan.model_id,
        model=_copied_model(plan),
        table=TableEntry(uri=plan.table.uri, version=plan.table.version),
        rows=rows,
        counts={"indexed": rows, "skipped": skipped.skipped, **skipped.errors},
        shards=(),
        table_id=table_id(plan.table),
        trained_rows=rows,
    )


def _copied_model(plan: BuildPlan) -> str | None:
    """Copy the table's model into the index; returns its folder there."""
    if plan.model_id is None:
        return None
    model = f"models/{plan.model_id}"
    copy_model(plan.table.model_uri(plan.model_id), storage.join(plan.index, model))
    return model


def planned_shards(
    plan: BuildPlan, rows: int, reduction: Reduction, dtype: str, n_shards: int | None
) -> int:
    """Return how many shards rows are assigned to."""
    costs = ShardCosts.of(reduction, n_trees=plan.config.n_trees, vectors_dtype=dtype)
    limit = plan.config.max_build_memory_mb
    return plan_shards(rows, costs, max_memory_mb=limit, n_shards=n_shards)


def shard_settings(plan: BuildPlan, dtype: str) -> ShardSettings:
    """Return what the builders of shards need to know."""
    return ShardSettings(
        index_uri=plan.index,
        n_trees=plan.config.n_trees,
        seed=plan.config.seed,
        vectors_dtype=dtype,
        added_in=plan.next.number,
        carried=plan.columns.schema,
    )


def assigned_rows(
    spark: SparkSession, plan: BuildPlan, files: Sequence[TableFile], n_shards: int
) -> DataFrame:
    """Return the usable rows of files, each with the shard that it is assigned to."""
    carried = plan.columns.schema
    function = assign_rows(
        plan.table,
        carried=carried,
        dimension=plan.dimension,
        metric=plan.config.metric,
        n_shards=n_shards,
    )
    return map_files(spark, files, function, row_schema(carried))


def skipped_text(skipped_rows: SkippedRows) -> str:
    """Say how many rows are skipped, by reason."""
    counts = {"not ok": skipped_rows.skipped, **skipped_rows.errors}
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
