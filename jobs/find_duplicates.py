"""find-duplicates: clusters of near-duplicate pictures over a whole index, as a table.

Pictures of identical bytes count as one first. Each of the others asks the index for its own
neighbours, so that nothing is quadratic; those within the threshold are pairs, and pairs become
clusters around representatives.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.find_duplicates import JOB, DuplicatesConfig, arg_parser
from jobs.runtime.report import Report
from jobs.runtime.run import since_start
from jobs.steps.search.duplicates import (
    Clusters,
    DuplicatePasses,
    draw_clusters,
    find_clusters,
    pair_settings,
)
from jobs.steps.tasks import search_tasks, shuffle_partitions
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.storage.result_table import replace_rows, result_version
from udfs.duplicates import DUPLICATE_SCHEMA
from udfs.search import GroupedSnapshot

__all__ = ["arg_parser", "main", "run"]


def run(spark: SparkSession, config: DuplicatesConfig) -> Report:
    """Find the clusters; returns the report."""
    report = JOB.report()
    snapshot = open_snapshot(config.index, config.snapshot)
    index = GroupedSnapshot.of(snapshot, config.max_task_bytes)
    passes = DuplicatePasses.of(spark, index, config.threshold)
    version = result_version(config.output_uri, DUPLICATE_SCHEMA)
    manifest = snapshot.manifest
    report.counts["ok"], report.model_id = manifest.rows, manifest.model_id
    report.details.update(snapshot_id=manifest.snapshot_id, threshold=config.threshold)
    report.seconds["startup"] = since_start()
    with (
        shuffle_partitions(spark, search_tasks(spark)),
        find_clusters(passes, pair_settings(manifest, config), report.timed) as clusters,
    ):
        _fill(report, clusters, config)
        with report.timed("clusters"):
            stored = passes.write(
                clusters.members,
                table_uri=config.output_uri,
                run_id=report.run_id,
                n_largest=config.sheets,
            )
            report.details["table_version"] = replace_rows(
                config.output_uri,
                schema=DUPLICATE_SCHEMA,
                files=stored.files,
                read_version=version,
                run_id=report.run_id,
                job=JOB.name,
            )
        report.details.update(stored.details())
        if config.sheet_dir is not None:
            with report.timed("sheets"):
                draw_clusters(passes, clusters.members, stored.largest, config.sheet_dir)
    return report


def _fill(report: Report, clusters: Clusters, config: DuplicatesConfig) -> None:
    report.details["identical"] = clusters.n_identical
    report.details.update(pairs=clusters.n_pairs, unfinished=clusters.n_unfinished)
    if clusters.n_unfinished:
        report.warn(
            f"{clusters.n_unfinished} pictures have {config.max_neighbours} neighbours or more "
            "within the threshold in one shard, and of these no more were looked at; lower "
            "--threshold, or raise --max-neighbours"
        )


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return JOB.main(argv, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
