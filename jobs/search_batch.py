"""search-batch: many queries in, the k nearest pictures of each out, as a table.

Each task opens some of the shards and answers a block of the queries from them; what the groups of
shards found is merged by query. The answers are those of the query module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.search_batch import JOB, SearchConfig, arg_parser
from jobs.runtime.report import Report
from jobs.runtime.run import gated, since_start
from jobs.steps.gates import require_few_failed
from jobs.steps.search.queries import query_frame
from jobs.steps.search.search import Answers, answer_queries
from pool3.index.format.manifest import Manifest
from pool3.index.recall.effort import Effort, choose_effort
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.storage.result_table import replace_rows, result_version
from udfs.search import ANSWER_SCHEMA, GroupedSnapshot

__all__ = ["arg_parser", "main", "run"]


def run(spark: SparkSession, config: SearchConfig) -> Report:
    """Answer the queries; returns the report."""
    report = JOB.report()
    snapshot = open_snapshot(config.index, config.snapshot)
    manifest = snapshot.manifest
    effort = choose_effort(
        manifest, config.k, recall=config.recall, rerank=config.rerank, search_k=config.search_k
    )
    version = result_version(config.output_uri, ANSWER_SCHEMA)
    queries = query_frame(spark, config.queries, snapshot)
    index = GroupedSnapshot.of(snapshot, config.max_task_bytes)
    report.seconds["startup"] = since_start()
    with report.timed("search"):
        answers = answer_queries(
            spark, index, queries, effort, output_uri=config.output_uri, run_id=report.run_id
        )
    table_version = replace_rows(
        config.output_uri,
        schema=ANSWER_SCHEMA,
        files=answers.files,
        read_version=version,
        run_id=report.run_id,
        job=JOB.name,
    )
    _fill(report, manifest, effort, answers)
    report.details.update(table_version=table_version, groups=len(index.groups))
    with gated(report):
        require_few_failed(
            report.counts["ok"],
            report.errors,
            config.max_failed,
            unit="queries",
            note="the answers to the others are in the table",
        )
    return report


def _fill(report: Report, manifest: Manifest, effort: Effort, answers: Answers) -> None:
    report.counts["ok"] = answers.n_answered
    report.count_skipped(answers.skipped_rows)
    report.model_id = manifest.model_id
    report.details.update(
        snapshot_id=manifest.snapshot_id,
        effort={"k": effort.k, "rerank": effort.rerank, "search_k": effort.search_k},
        recall=effort.recall,
        failed=answers.skipped_rows.named,
    )


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return JOB.main(argv, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
