"""A search with many queries: spread over groups of shards, merged by query, written as a table."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.options.search_batch import SearchConfig
from jobs.runtime.report import Report
from jobs.steps.tasks import gather, search_tasks
from pool3.features.vectors import SkippedRows
from pool3.index.recall.effort import Effort
from pool3.storage.tables import TableFile
from udfs.search import SPARK_PART_SCHEMA, AnswerSettings, OpenIndex, search_parts, write_answers


def answer(
    spark: SparkSession,
    config: SearchConfig,
    index: OpenIndex,
    queries: DataFrame,
    effort: Effort,
    report: Report,
) -> tuple[list[TableFile], SkippedRows]:
    """Search, merge and store; returns the files of answers, and which queries have none."""
    context = spark.sparkContext
    asked = to_groups(queries, len(index.groups), search_tasks(spark), "query_id")
    parts = asked.mapInArrow(search_parts(context.broadcast(index), effort), SPARK_PART_SCHEMA)
    settings = AnswerSettings(
        table_uri=config.output_uri,
        run_id=report.run_id,
        model_id=index.manifest.model_id,
        snapshot_id=index.manifest.snapshot_id,
        effort=effort,
    )
    merging = by_query(parts, context.defaultParallelism)
    tasks = gather(merging, write_answers(settings), label="answering queries")
    skipped_rows = SkippedRows()
    for task in tasks:
        report.counts["ok"] += task.pop("ok")
        skipped_rows.merge(SkippedRows.from_dict(task))
    files = [TableFile.from_dict(task["file"]) for task in tasks if task["file"] is not None]
    return files, skipped_rows


def to_groups(queries: DataFrame, n_groups: int, n_tasks: int, key: str) -> DataFrame:
    """Return each query once for each group, in about `n_tasks` tasks, each of one group.

    One whose vector is null goes to the first group only.
    """
    n_blocks = -(-n_tasks // n_groups)
    groups = F.sequence(F.lit(0), F.lit(n_groups - 1))
    asked = F.when(F.col("vector").isNull(), F.array(F.lit(0))).otherwise(groups)
    block = F.pmod(F.xxhash64(key), F.lit(n_blocks)).cast("int")
    return (
        queries.withColumn("part", F.explode(asked))
        .withColumn("task", F.col("part") * n_blocks + block)
        .repartitionById(n_groups * n_blocks, "task")
        .drop("task")
    )


def by_query(parts: DataFrame, n_tasks: int) -> DataFrame:
    """Bring the answers to each query together, in the order of the groups."""
    return parts.repartition(n_tasks, "query_id").sortWithinPartitions("query_id", "part")
