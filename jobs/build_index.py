"""build-index: feature table in, index snapshot out, published.

The first time two passes over the table: one adds up what PCA is fitted from, the other assigns the
rows to shards, each built by one task on its local disk and then stored. From then on only what
changed: new rows become shards of their own, and rows that changed or went get tombstones. The
manifest names what counts, and one entry in the publication log makes it the index that readers
open.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.build_index import JOB, BuildConfig, arg_parser
from jobs.runtime.report import Report
from jobs.runtime.run import gated, since_start
from jobs.steps.index.build import BuildResult, skipped_text
from jobs.steps.index.delta import build_snapshot
from jobs.steps.index.metadata import logged_columns, require_unique_ids
from jobs.steps.index.plan import BuildPlan, plan_build
from jobs.steps.index.report import advice, snapshot_details
from pool3.index.snapshots.gates import Gates

__all__ = ["arg_parser", "main", "run"]

log = logging.getLogger(__name__)


def run(spark: SparkSession, config: BuildConfig) -> Report:
    """Build a snapshot and publish it; returns the report."""
    report = JOB.report()
    plan = plan_build(config, report.run_id)
    report.details["columns"] = logged_columns(plan)
    if plan.table.foreign:
        require_unique_ids(spark, plan.table)
    report.seconds["startup"] = since_start()
    result = build_snapshot(spark, plan, report.timed)
    _fill(report, plan, result)
    if result.manifest is not None:
        gates = Gates(max_shrink=config.max_shrink, min_recall=config.min_recall)
        with gated(report):
            plan.next.publish(result.manifest, why="built", gates=gates)
    return report


def _fill(report: Report, plan: BuildPlan, result: BuildResult) -> None:
    """Report the rows by what became of them, the snapshot, and what a person should do."""
    skipped = result.skipped_rows
    if skipped.errors:
        log.warning("left out of the index: %s", skipped_text(skipped))
    report.count_skipped(skipped)
    report.counts.update(ok=result.n_ok, skipped=result.n_skipped, gone=result.n_gone)
    report.model_id = plan.model_id
    if result.full_build is not None:
        report.details["built_anew"] = result.full_build
    report.details["left_out"] = skipped.named
    for warning in plan.warnings:
        report.warn(warning)
    if result.manifest is None:
        published = None if plan.base is None else plan.base.snapshot_id
        report.details.update(snapshot_id=published, unchanged=True)
        log.info("nothing changed in %s; no snapshot was made", plan.table.uri)
        return
    report.model_id = result.manifest.model_id
    report.details.update(snapshot_details(result.manifest), unchanged=False)
    for warning in advice(result.manifest):
        report.warn(warning)


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return JOB.main(argv, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
