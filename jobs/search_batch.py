"""search-batch: many queries in, the k nearest pictures of each out, as a table.

Each task opens some of the shards and answers a block of the queries from them; what the groups of
shards found is merged by query. The answers are those of the query module.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from pool3 import storage
from pool3.errors import GateError, UsageError
from pool3.features.gates import NOT_A_PICTURE
from pool3.features.vectors import LeftOut
from pool3.index.depth import Depth, depth_of
from pool3.index.manifest import Manifest
from pool3.index.opening import open_snapshot
from pool3.job import fail, job_parser, run_job, since_start
from pool3.report import Report, new_run_id
from pool3.result_tables import replace_rows, result_version
from pool3.search_options import MAX_TASK_MB, add_search_options, require_counts
from pool3.storage.tables import TableFile
from udfs.query_frame import query_frame
from udfs.search_shards import (
    ANSWER_SCHEMA,
    SPARK_PART_SCHEMA,
    AnswerSettings,
    OpenIndex,
    by_query,
    search_parts,
    search_tasks,
    to_groups,
    write_answers,
)
from udfs.spread import gather

JOB = "search-batch"
BYTES_A_MB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What search-batch is asked to do; the options of the command line, checked."""

    index: str
    queries: str
    output: str
    k: int = 10
    snapshot: int | None = None
    recall: float | None = None
    rerank: int | None = None
    search_k: int | None = None
    max_failed: float = 0.02
    max_task_mb: int = MAX_TASK_MB
    report: str | None = None

    def __post_init__(self) -> None:
        require_counts(
            {"-k": self.k, "--snapshot": self.snapshot, "--max-task-mb": self.max_task_mb}
        )
        if not 0 <= self.max_failed <= 1:
            raise UsageError(f"expected --max-failed from 0 to 1, found {self.max_failed}")
        storage.canonical_uri(self.index)
        storage.canonical_uri(self.output)

    @property
    def output_uri(self) -> str:
        """The table of answers, canonical."""
        return storage.canonical_uri(self.output)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
        "Find the k nearest pictures of each query, and write them to a Delta table with the\n"
        "columns query_id, rank, image_id, distance, model_id, snapshot_id, run_id. Each run's\n"
        "rows take the place of those before; older versions of the table stay readable.",
        "examples:\n"
        "  ./submit.sh search-batch --index s3://lake/index --queries s3://lake/new-photos \\\n"
        "      --output s3://lake/answers\n"
        "  ./submit.sh search-batch --index build/index --queries build/features \\\n"
        "      --output build/answers -k 100 --recall 0.99\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments (nothing written), 3 done, and more\n"
        "queries than --max-failed could not be searched with",
    )
    parser.add_argument("--index", required=True, metavar="DIR", help="the index")
    parser.add_argument(
        "--queries",
        required=True,
        metavar="TABLE_OR_PICTURES",
        help="a feature table, or any Delta table or folder of Parquet files with the columns "
        "features and query_id or image_id; or a folder, file or glob of pictures, whose uris "
        "are then the query ids",
    )
    parser.add_argument("--output", required=True, metavar="TABLE", help="the table of answers")
    parser.add_argument(
        "-k",
        type=int,
        default=SearchConfig.k,
        metavar="K",
        help="hits for each query; fewer only where the index has fewer rows (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--max-failed",
        type=float,
        default=SearchConfig.max_failed,
        metavar="SHARE",
        help="largest share of queries that may fail; files that are no pictures do not count "
        "(default: %(default)s)",
    )
    add_search_options(parser)
    return parser


def configure(arguments: argparse.Namespace) -> SearchConfig:
    """Return the configuration of a parsed command line."""
    return SearchConfig(**vars(arguments))


def run(spark: SparkSession, config: SearchConfig) -> Report:
    """Answer the queries; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    uri, manifest, reduction = open_snapshot(config.index, config.snapshot)
    depth = depth_of(
        manifest, config.k, recall=config.recall, rerank=config.rerank, search_k=config.search_k
    )
    version = result_version(config.output_uri, ANSWER_SCHEMA)
    queries = query_frame(spark, config.queries, uri, manifest)
    index = OpenIndex.of(uri, manifest, reduction, config.max_task_mb * BYTES_A_MB)
    report.seconds["startup"] = since_start()
    with report.timed("search"):
        files, left_out = _answer(spark, config, index, queries, depth, report)
    table_version = replace_rows(
        config.output_uri,
        schema=ANSWER_SCHEMA,
        files=files,
        read_version=version,
        run_id=report.run_id,
        job=JOB,
    )
    _fill(report, manifest, depth, left_out)
    report.details.update(table_version=table_version, groups=len(index.groups))
    _check_failed(report, config.max_failed)
    return report


def _answer(
    spark: SparkSession,
    config: SearchConfig,
    index: OpenIndex,
    queries: DataFrame,
    depth: Depth,
    report: Report,
) -> tuple[list[TableFile], LeftOut]:
    """Search, merge and store; returns the files of answers, and which queries have none."""
    context = spark.sparkContext
    asked = to_groups(queries, len(index.groups), search_tasks(spark), "query_id")
    parts = asked.mapInArrow(search_parts(context.broadcast(index), depth), SPARK_PART_SCHEMA)
    settings = AnswerSettings(
        table_uri=config.output_uri,
        run_id=report.run_id,
        model_id=index.manifest.model_id,
        snapshot_id=index.manifest.snapshot_id,
        depth=depth,
    )
    merging = by_query(parts, context.defaultParallelism)
    tasks = gather(merging, write_answers(settings), label="answering queries")
    left_out = LeftOut()
    for task in tasks:
        report.counts["ok"] += task.pop("ok")
        left_out.merge(LeftOut.from_dict(task))
    files = [TableFile.from_dict(task["file"]) for task in tasks if task["file"] is not None]
    return files, left_out


def _fill(report: Report, manifest: Manifest, depth: Depth, left_out: LeftOut) -> None:
    report.counts.update(failed=sum(left_out.errors.values()), skipped=left_out.skipped)
    report.errors = dict(left_out.errors)
    report.model_id = manifest.model_id
    report.details.update(
        snapshot_id=manifest.snapshot_id,
        depth={"k": depth.k, "rerank": depth.rerank, "search_k": depth.search_k},
        recall=depth.recall,
        failed=left_out.named,
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
