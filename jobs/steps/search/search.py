"""A search with many queries: spread over groups of shards, merged by query, written as a table."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.steps.tasks import gather, search_tasks
from pool3.features.vectors import SkippedRows
from pool3.index.recall.effort import Effort
from pool3.storage.tables import TableFile
from udfs.search import (
    SPARK_GROUP_ANSWER_SCHEMA,
    AnswerSettings,
    GroupedSnapshot,
    search_group,
    write_answers,
)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers to all queries, stored.

    Attributes
    ----------
    files
        Their rows; no table names them yet.
    n_answered
        How many queries have an answer.
    skipped_rows
        The queries that could not be searched with, by reason.
    """

    files: list[TableFile]
    n_answered: int
    skipped_rows: SkippedRows


def answer_queries(
    spark: SparkSession,
    index: GroupedSnapshot,
    queries: DataFrame,
    effort: Effort,
    *,
    output_uri: str,
    run_id: str,
) -> Answers:
    """Search with rows of `udfs.queries.QUERY_SCHEMA`, merge and store."""
    context, manifest = spark.sparkContext, index.snapshot.manifest
    grouped = to_groups(queries, len(index.groups), search_tasks(spark), "query_id")
    function = search_group(context.broadcast(index), effort)
    group_answers = grouped.mapInArrow(function, SPARK_GROUP_ANSWER_SCHEMA)
    settings = AnswerSettings(
        table_uri=output_uri,
        run_id=run_id,
        model_id=manifest.model_id,
        snapshot_id=manifest.snapshot_id,
        effort=effort,
    )
    by_query = _by_query(group_answers, context.defaultParallelism)
    tasks = gather(by_query, write_answers(settings), label="answering queries")
    skipped_rows = SkippedRows()
    for task in tasks:
        skipped_rows.merge(SkippedRows.from_dict(task))
    return Answers(
        files=[TableFile.from_dict(task["file"]) for task in tasks if task["file"] is not None],
        n_answered=sum(task["ok"] for task in tasks),
        skipped_rows=skipped_rows,
    )


def to_groups(queries: DataFrame, n_groups: int, n_tasks: int, key: str) -> DataFrame:
    """Return each query once for each group, in about `n_tasks` tasks, each of one group.

    One whose vector is null goes to the first group only.
    """
    n_blocks = -(-n_tasks // n_groups)
    all_groups = F.sequence(F.lit(0), F.lit(n_groups - 1))
    groups = F.when(F.col("vector").isNull(), F.array(F.lit(0))).otherwise(all_groups)
    block = F.pmod(F.xxhash64(key), F.lit(n_blocks)).cast("int")
    return (
        queries.withColumn("group", F.explode(groups))
        .withColumn("task", F.col("group") * n_blocks + block)
        .repartitionById(n_groups * n_blocks, "task")
        .drop("task")
    )


def _by_query(group_answers: DataFrame, n_tasks: int) -> DataFrame:
    """Bring the answers to each query together, in the order of the groups."""
    return group_answers.repartition(n_tasks, "query_id").sortWithinPartitions("query_id", "group")
