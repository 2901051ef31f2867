"""search-batch: many queries in, the k nearest pictures of each out, as a table.

Each task opens some of the shards and answers a block of the queries from them; what the groups of
shards found is merged by query. The answers are those of the query module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.search_batch import JOB, SearchConfig, arg_parser, configure
from jobs.options.shared import BYTES_A_MB
from jobs.runtime.report import Report
from jobs.runtime.run import fail, run_job, since_start
from jobs.steps.extract.gates import NOT_A_PICTURE
from jobs.steps.search.queries import query_frame
from jobs.steps.search.search import answer
from pool3.errors import GateError
from pool3.features.vectors import SkippedRows
from pool3.index.format.manifest import Manifest
from pool3.index.recall.effort import Effort, choose_effort
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.storage.names import new_run_id
from pool3.storage.result_table import replace_rows, result_version
from udfs.search import (
    ANSWER_SCHEMA,
    OpenIndex,
)


def run(spark: SparkSession, config: SearchConfig) -> Report:
    """Answer the queries; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    uri, manifest, reduction = open_snapshot(config.index, config.snapshot)
    effort = choose_effort(
        manifest, config.k, recall=config.recall, rerank=config.rerank, search_k=config.search_k
    )
    version = result_version(config.output_uri, ANSWER_SCHEMA)
    queries = query_frame(spark, config.queries, uri, manifest)
    index = OpenIndex.of(uri, manifest, reduction, config.max_task_mb * BYTES_A_MB)
    report.seconds["startup"] = since_start()
    with report.timed("search"):
        files, skipped_rows = answer(spark, config, index, queries, effort, report)
    table_version = replace_rows(
        config.output_uri,
        schema=ANSWER_SCHEMA,
        files=files,
        read_version=version,
        run_id=report.run_id,
        job=JOB,
    )
    _fill(report, manifest, effort, skipped_rows)
    report.details.update(table_version=table_version, groups=len(index.groups))
    _check_failed(report, config.max_failed)
    return report


def _fill(report: Report, manifest: Manifest, effort: Effort, skipped_rows: SkippedRows) -> None:
    report.counts.update(failed=sum(skipped_rows.errors.values()), skipped=skipped_rows.skipped)
    report.errors = dict(skipped_rows.errors)
    report.model_id = manifest.model_id
    report.details.update(
        snapshot_id=manifest.snapshot_id,
        effort={"k": effort.k, "rerank": effort.rerank, "search_k": effort.search_k},
        recall=effort.recall,
        failed=skipped_rows.named,
    )


def _check_failed(report: Report, max_failed: float) -> None:
    """Set the outcome ``gate`` when too many queries could not be searched with."""
    errors = {code: count for code, count in report.errors.items() if code != NOT_A_PICTURE}
    failed = sum(errors.values())
    tried = report.counts["ok"] + failed
    if failed > max_failed * tried:
        told = ", ".join(f"{code} {count}" for code, count in sorted(errors.items()))
        fail(
            report,
            GateError.exit_code,
            f"expected at most {max_failed:.1%} of the queries to fail, found {failed} of {tried} "
            f"({told}); the answers to the others are in the table (--max-failed sets the share)",
        )


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
