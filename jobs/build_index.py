"""build-index: feature table in, index snapshot out, published.

The first time two passes over the table: one adds up what PCA is fitted from, the other deals the
rows to shards, each built by one task on its local disk and then stored. From then on only what
changed: new rows become shards of their own, and the rows of others are buried. The manifest names
what counts, and one entry in the publication log makes it the index that readers open.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace

from pyspark.sql import SparkSession

from jobs.options.build_index import JOB, BuildConfig, build_parser, configure
from jobs.runtime.report import Report
from jobs.runtime.run import fail, run_job, since_start
from jobs.steps.index.build import Build, full_build
from jobs.steps.index.changes import Changes, find_changes
from jobs.steps.index.delta import delta_build
from jobs.steps.index.metadata import refresh_from_table, require_unique_ids
from jobs.steps.index.report import report_snapshot, report_unchanged
from pool3.errors import GateError, UsageError
from pool3.features.table import FeatureTable, open_features
from pool3.features.vectors import vector_dimension
from pool3.index.changes import why_full_build
from pool3.index.format.manifest import Manifest
from pool3.index.snapshots.gates import require_not_shrunk, require_recall
from pool3.index.snapshots.publication import (
    newest_entry,
    newest_snapshot,
    publish,
    published_by,
    read_manifest,
    write_manifest,
)
from pool3.storage.names import new_run_id

log = logging.getLogger(__name__)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return build_parser(JOB)


def run(spark: SparkSession, config: BuildConfig) -> Report:
    """Build a snapshot and publish it; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    published = newest_entry(config.output_uri)
    build = _begin(spark, config, report, published)
    if build.table.foreign:
        require_unique_ids(spark, build.table)
    report.seconds["startup"] = since_start()
    manifest = _snapshot(build)
    if manifest is None:
        report_unchanged(build)
        return report
    write_manifest(build.index, manifest)
    report_snapshot(build, manifest)
    try:
        require_not_shrunk(build.base, manifest, config.max_shrink)
        require_recall(manifest, config.min_recall)
    except GateError as error:
        fail(report, error.exit_code, str(error))
        return report
    publish(build.index, manifest.snapshot_id, by=report.run_id, why="built", after=published)
    return report


def _begin(spark: SparkSession, config: BuildConfig, report: Report, published: int) -> Build:
    table = open_features(config.features)
    index = config.output_uri
    base = read_manifest(index, published_by(index, published)) if published else None
    model_id = table.model_id()
    return Build(
        spark=spark,
        config=config,
        table=table,
        dimension=_dimension(table, base),
        model_id=model_id,
        base=base,
        parent=newest_snapshot(index),
        report=report,
    )


def _dimension(table: FeatureTable, base: Manifest | None) -> int:
    """Return the length of the table's vectors; of one that lost them all, what it was."""
    try:
        return vector_dimension(table)
    except UsageError:
        if base is None or base.table.uri != table.uri or not base.rows:
            raise
        return base.dimension


def _snapshot(build: Build) -> Manifest | None:
    """Store everything that the snapshot will name; None where nothing changed."""
    why = _why_full_build(build)
    if why is None and build.base is not None:
        with build.report.timed("compare"):
            changes = find_changes(build.spark, build.table, build.base, build.index)
        if not _too_wide(build, build.base, changes):
            manifest = delta_build(build, build.base, changes)
            changes.rows.unpersist()
            return manifest
        why = "float16 cannot hold a vector that is new"
    log.info("building from the whole table: %s", why)
    build.report.details["built_anew"] = why
    manifest = full_build(build)
    shards, metadata = refresh_from_table(build, manifest.shards)
    return replace(manifest, shards=tuple(shards), metadata=metadata)


def _why_full_build(build: Build) -> str | None:
    config = build.config
    if config.refit_pca:
        return "--refit-pca was asked for"
    return why_full_build(
        build.base,
        build.table,
        metric=config.metric,
        n_trees=config.n_trees,
        seed=config.seed,
        vectors_dtype=config.vectors_dtype,
        dimension=build.dimension,
        model_id=build.model_id,
    )


def _too_wide(build: Build, base: Manifest, changes: Changes) -> bool:
    automatic = build.config.vectors_dtype == "auto"
    return automatic and base.vectors_dtype == "float16" and changes.wide


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return run_job(
        JOB,
        argv,
        parser=arg_parser(),
        configure=configure,
        run=lambda config: run(SparkSession.builder.appName(JOB).getOrCreate(), config),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
