"""A search with many queries: spread over groups of shards, merged by query, written as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.steps.tasks import gather, gather_shards, map_shards, search_tasks
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
from udfs.tasks import TaskFunction


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
    distributed, manifest = DistributedIndex(spark, index), index.snapshot.manifest
    grouped = distributed.to_groups(queries, "query_id")
    function = search_group(distributed.broadcast, effort)
    group_answers = grouped.mapInArrow(function, SPARK_GROUP_ANSWER_SCHEMA)
    settings = AnswerSettings(
        table_uri=output_uri,
        run_id=run_id,
        model_id=manifest.model_id,
        snapshot_id=manifest.snapshot_id,
        effort=effort,
    )
    by_query = _by_query(group_answers, spark.sparkContext.defaultParallelism)
    tasks = gather(by_query, write_answers(settings), label="answering queries")
    skipped_rows = SkippedRows()
    for task in tasks:
        skipped_rows.merge(SkippedRows.from_dict(task))
    return Answers(
        files=[TableFile.from_dict(task["file"]) for task in tasks if task["file"] is not None],
        n_answered=sum(task["ok"] for task in tasks),
        skipped_rows=skipped_rows,
    )


class DistributedIndex:
    """A grouped snapshot, broadcast; functions run over its shards, queries over its groups.

    Parameters
    ----------
    spark
        The session.
    index
        An index with live rows.

    Attributes
    ----------
    snapshot : Snapshot
    broadcast : Broadcast of GroupedSnapshot
        What the functions are given.
    """

    def __init__(self, spark: SparkSession, index: GroupedSnapshot) -> None:
        self.snapshot = index.snapshot
        self.broadcast = spark.sparkContext.broadcast(index)
        self._spark = spark
        self._n_groups = len(index.groups)
        self._entries = [entry for entry in index.snapshot.manifest.shards if entry.live]

    def map_shards(self, function: TaskFunction, schema: T.StructType) -> DataFrame:
        """Return the rows that a function yields of the shards."""
        return map_shards(self._spark, self._entries, function, schema)

    def gather_shards(self, function: TaskFunction, label: str) -> list[dict[str, Any]]:
        """Return the summaries of a function over the shards."""
        return gather_shards(self._spark, self._entries, function, label=label)

    def to_groups(self, queries: DataFrame, key: str) -> DataFrame:
        """Return each query once for each group of shards; see `to_groups`."""
        return to_groups(queries, self._n_groups, search_tasks(self._spark), key)


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
