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

from pool3.errors import GateError, UsageError
from pool3.features.table import FeatureTable, open_features
from pool3.features.vectors import vector_dimension
from pool3.index.build_options import BuildConfig, build_parser, configure
from pool3.index.changes import why_anew
from pool3.index.curve import MEASURED_KS
from pool3.index.gates import best_recall, require_not_shrunk, require_recall
from pool3.index.manifest import Manifest
from pool3.index.publication import (
    newest_entry,
    newest_snapshot,
    publish,
    published_by,
    read_manifest,
    write_manifest,
)
from pool3.job import fail, run_job, since_start
from pool3.report import Report, new_run_id
from udfs.build import Build, anew
from udfs.build_delta import with_changes
from udfs.build_metadata import refresh_from_table, require_unique_ids
from udfs.changes import Changes, find_changes

JOB = "build-index"
#: From here on a report says that folding or a new PCA would help.
MANY_DELTAS = 20
MUCH_UNSEEN = 0.25
LEAST_KEPT = 0.8

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
        _tell_unchanged(build)
        return report
    write_manifest(build.index, manifest)
    _tell(build, manifest)
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
    why = _why_anew(build)
    if why is None and build.base is not None:
        with build.report.timed("compare"):
            changes = find_changes(build.spark, build.table, build.base, build.index)
        if not _too_wide(build, build.base, changes):
            manifest = with_changes(build, build.base, changes)
            changes.rows.unpersist()
            return manifest
        why = "float16 cannot hold a vector that is new"
    log.info("building from the whole table: %s", why)
    build.report.details["built_anew"] = why
    manifest = anew(build)
    shards, metadata = refresh_from_table(build, manifest.shards)
    return replace(manifest, shards=tuple(shards), metadata=metadata)


def _why_anew(build: Build) -> str | None:
    config = build.config
    if config.refit_pca:
        return "--refit-pca was asked for"
    return why_anew(
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


def _tell_unchanged(build: Build) -> None:
    base = build.base
    build.report.model_id = build.model_id
    build.report.details.update(
        snapshot_id=None if base is None else base.snapshot_id, unchanged=True
    )
    log.info("nothing changed in %s; no snapshot was made", build.table.uri)


def _tell(build: Build, manifest: Manifest) -> None:
    report = build.report
    report.model_id = manifest.model_id
    report.details.update(
        snapshot_id=manifest.snapshot_id,
        base=manifest.base,
        unchanged=False,
        metric=manifest.metric,
        dimension=manifest.dimension,
        reduced_dimension=manifest.reduction.dimension,
        explained_variance=manifest.reduction.explained_variance,
        vectors_dtype=manifest.vectors_dtype,
        n_trees=manifest.n_trees,
        rows=manifest.rows,
        dead=sum(shard.dead for shard in manifest.shards),
        shards=[shard.rows for shard in manifest.shards],
        bytes=manifest.bytes,
        table={"uri": manifest.table.uri, "version": manifest.table.version},
        recall={str(k): best_recall(manifest, k) for k in MEASURED_KS},
        unseen={
            "rows": manifest.unseen_rows,
            "share": manifest.unseen_rows / max(1, manifest.rows),
            "explained_variance": manifest.unseen_explained_variance,
        },
    )
    report.warnings += advice(manifest)
    for warning in report.warnings:
        log.warning("%s", warning)


def advice(manifest: Manifest) -> list[str]:
    """Return what a person should do about a snapshot soon."""
    advice = []
    deltas = len({shard.added_in for shard in manifest.shards}) - 1
    if deltas > MANY_DELTAS:
        advice.append(
            f"{deltas} deltas make {len(manifest.shards)} shards, and each query asks each of "
            "them; run compact-index"
        )
    share, kept = manifest.unseen_rows / max(1, manifest.rows), manifest.unseen_explained_variance
    fitted = manifest.reduction.explained_variance
    if share > MUCH_UNSEEN or (kept is not None and kept < LEAST_KEPT * fitted):
        advice.append(
            f"the PCA was fitted without {share:.0%} of the rows, and keeps {kept or 0:.1%} of "
            f"their variance, and {fitted:.1%} of the others'; run with --refit-pca"
        )
    return advice


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
