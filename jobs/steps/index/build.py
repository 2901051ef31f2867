"""An index built from the whole of a feature table: the driver's side of build-index.

Two passes over the table: one adds up what PCA is fitted from, the other deals the rows to shards,
each built by one task on its local disk and then stored.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession

from jobs.options.build_index import BuildConfig
from jobs.runtime.report import Report
from jobs.steps.index.recall import with_recall
from jobs.steps.index.shards import built_shards, with_empty
from jobs.steps.tasks import gather, spread
from pool3 import storage
from pool3.errors import UsageError
from pool3.features.columns import carried_schema
from pool3.features.table import FeatureTable
from pool3.features.vectors import SkippedRows
from pool3.index.changes import table_id
from pool3.index.format.manifest import Manifest, TableEntry
from pool3.index.reduction import Reduction, choose_dtype, fit
from pool3.index.shards.sizing import ShardCosts, plan_shards
from pool3.index.snapshots.publication import next_snapshot, utc_now
from pool3.index.snapshots.store import store_reduction
from pool3.models import copy_model
from pool3.storage.tables import TableFile
from udfs.scan import Scanned, merged, scan_files
from udfs.shards import ShardSettings, assign_rows, row_schema
from udfs.tasks import FILE_SCHEMA, file_rows

# Each scan task sends its sums to the driver, 34 MB at 2048 numbers, so one a core is enough.
MOST_SCAN_TASKS = 24

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Build:
    """One run: what it reads, and the snapshot that it makes."""

    spark: SparkSession
    config: BuildConfig
    table: FeatureTable
    dimension: int
    model_id: str | None
    base: Manifest | None
    parent: int | None
    report: Report

    @property
    def index(self) -> str:
        """The index's root, canonical."""
        return self.config.output_uri

    @property
    def snapshot(self) -> int:
        """The number of the snapshot-to-be."""
        return next_snapshot(self.parent)


def files_frame(
    build: Build, files: Sequence[TableFile], most_tasks: int | None = None
) -> DataFrame:
    """Return files of the table, spread over tasks."""
    n_tasks = min(len(files), most_tasks or len(files))
    return spread(build.spark, file_rows(files), FILE_SCHEMA, n_tasks)


def full_build(build: Build) -> Manifest:
    """Build all shards from the whole table."""
    config, report = build.config, build.report
    with report.timed("scan"):
        scanned = _scan(build)
    gram = scanned.gram
    count_left_out(report, scanned.skipped_rows, ok=gram.count)
    if gram.count == 0:
        raise UsageError(
            f"expected usable vectors of length {build.dimension} in {build.table.uri}, found none "
            f"({told(scanned.skipped_rows)}); nothing can be indexed"
        )
    with report.timed("fit"):
        reduction = fit(gram)
    dtype = choose_dtype(gram, config.vectors_dtype)
    n_shards = planned(build, gram.count, reduction, dtype, config.n_shards)
    settings = shard_settings(build, dtype)
    with report.timed("build"):
        rows = dealt(build, build.table.files, n_shards)
        built = built_shards(rows, settings, reduction, n_shards)
    manifest = _manifest(build, scanned, reduction, dtype)
    shards = with_empty(built, n_shards)
    manifest = replace(manifest, shards=shards)
    with report.timed("recall"):
        return with_recall(
            build.spark, build.index, manifest, reduction, picked=scanned.picker.picked()
        )


def _manifest(build: Build, scanned: Scanned, reduction: Reduction, dtype: str) -> Manifest:
    """Store reduction and model, and return the manifest, without shards yet."""
    config, rows, skipped_rows = build.config, scanned.gram.count, scanned.skipped_rows
    unique = uuid.uuid4().hex
    return Manifest(
        snapshot_id=build.snapshot,
        parent=build.parent,
        created_at=utc_now(),
        run_id=build.report.run_id,
        metric=config.metric,
        dimension=build.dimension,
        reduction=store_reduction(build.index, reduction, snapshot=build.snapshot, unique=unique),
        n_trees=config.n_trees,
        seed=config.seed,
        vectors_dtype=dtype,
        model_id=build.model_id,
        model=copied_model(build),
        table=TableEntry(uri=build.table.uri, version=build.table.version),
        rows=rows,
        counts={"indexed": rows, "skipped": skipped_rows.skipped, **skipped_rows.errors},
        shards=(),
        table_id=table_id(build.table),
        trained_rows=rows,
    )


def _scan(build: Build) -> Scanned:
    metric, dimension = build.config.metric, build.dimension
    function = scan_files(build.table, dimension=dimension, metric=metric)
    n_tasks = min(MOST_SCAN_TASKS, build.spark.sparkContext.defaultParallelism)
    files = files_frame(build, build.table.files, n_tasks)
    return merged(
        gather(files, function, label="reading vectors"), metric=metric, dimension=dimension
    )


def planned(build: Build, rows: int, reduction: Reduction, dtype: str, n_shards: int | None) -> int:
    """Return into how many shards rows are dealt."""
    costs = ShardCosts.of(
        dimension=build.dimension,
        tree_dimension=reduction.tree_dimension,
        n_trees=build.config.n_trees,
        vectors_dtype=dtype,
    )
    limit = build.config.max_build_memory_mb
    return plan_shards(rows, costs, max_memory_mb=limit, n_shards=n_shards)


def shard_settings(build: Build, dtype: str) -> ShardSettings:
    """Return what the builders of shards need to know."""
    return ShardSettings(
        index_uri=build.index,
        n_trees=build.config.n_trees,
        seed=build.config.seed,
        vectors_dtype=dtype,
        added_in=build.snapshot,
        carried=carried_schema(build.table),
    )


def dealt(build: Build, files: Sequence[TableFile], n_shards: int) -> DataFrame:
    """Return the usable rows of files, with the shard that each falls to."""
    carried = carried_schema(build.table)
    deal = assign_rows(
        build.table,
        carried=carried,
        dimension=build.dimension,
        metric=build.config.metric,
        n_shards=n_shards,
    )
    return files_frame(build, files).mapInArrow(deal, row_schema(carried))


def copied_model(build: Build) -> str | None:
    """Copy the table's model into the index; returns its folder there."""
    if build.model_id is None:
        return None
    model = f"models/{build.model_id}"
    copy_model(build.table.model_uri(build.model_id), storage.join(build.index, model))
    return model


def count_left_out(report: Report, skipped_rows: SkippedRows, *, ok: int) -> None:
    """Report how many rows were indexed, and name those that cannot be."""
    if skipped_rows.errors:
        log.warning("left out of the index: %s", told(skipped_rows))
    report.counts.update(
        ok=ok, failed=sum(skipped_rows.errors.values()), skipped=skipped_rows.skipped
    )
    report.errors = dict(skipped_rows.errors)
    report.details["left_out"] = skipped_rows.named


def told(skipped_rows: SkippedRows) -> str:
    """Say what is left out, by reason."""
    counts = {"not ok": skipped_rows.skipped, **skipped_rows.errors}
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
