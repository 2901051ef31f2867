"""find-duplicates: clusters of near-duplicate pictures over a whole index, as a table.

Pictures of identical bytes count as one first. Each of the others asks the index for its own
neighbours, so that nothing is quadratic; those within the threshold are pairs, and pairs become
clusters around representatives.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.find_duplicates import JOB, DuplicatesConfig, arg_parser, configure
from jobs.options.shared import BYTES_A_MB
from jobs.runtime.report import Report
from jobs.runtime.run import run_job, since_start
from jobs.steps.search.duplicates import FIRST_K, Passes, find
from jobs.steps.tasks import few_partitions
from pool3.errors import UsageError
from pool3.index.recall.effort import choose_effort
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.search.duplicates import check_threshold
from pool3.storage.names import new_run_id
from pool3.storage.result_table import result_version
from udfs.duplicates import DUPLICATE_SCHEMA, PairSettings
from udfs.search import OpenIndex

log = logging.getLogger(__name__)


def run(spark: SparkSession, config: DuplicatesConfig) -> Report:
    """Find the clusters; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    uri, manifest, reduction = open_snapshot(config.index, config.snapshot)
    check_threshold(config.threshold, manifest.metric)
    if not manifest.rows:
        raise UsageError(f"expected an index with rows, found none in {uri}")
    settings = PairSettings(
        effort=choose_effort(manifest, FIRST_K, recall=config.recall),
        threshold=config.threshold,
        most=config.max_neighbours,
    )
    version = result_version(config.output_uri, DUPLICATE_SCHEMA)
    index = OpenIndex.of(uri, manifest, reduction, config.max_task_mb * BYTES_A_MB)
    passes = Passes(spark, index)
    report.counts["ok"] = manifest.rows
    report.model_id = manifest.model_id
    report.details.update(snapshot_id=manifest.snapshot_id, threshold=config.threshold)
    report.seconds["startup"] = since_start()
    with few_partitions(spark):
        find(config, passes, settings, version, report)
    return report


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
