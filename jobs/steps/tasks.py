"""Work spread over tasks, and what the tasks send back: the one way of every step.

`map_files` and `map_shards` run a function over files of a table or shards of an index and return
the rows that it yields; `gather_files` and `gather_shards` return one summary a task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.runtime.progress import watched
from pool3.errors import UsageError
from pool3.index.format.entries import ShardEntry
from pool3.storage.tables import TableFile
from udfs.tasks import FILE_SCHEMA, SHARD_SCHEMA, SUMMARY_SCHEMA, TaskFunction


def spread(spark: SparkSession, rows: pa.Table, schema: T.StructType, n_tasks: int) -> DataFrame:
    """Return `rows` in exactly `n_tasks` partitions, in turn one row to each.

    Neighbours in a listing are alike (a folder of huge scans, a folder of icons); taking turns
    keeps the tasks even.
    """
    turns = pa.array([i % n_tasks for i in range(rows.num_rows)], pa.int32())
    frame = spark.createDataFrame(
        rows.append_column("task", turns),
        schema=T.StructType([*schema.fields, T.StructField("task", T.IntegerType())]),
    )
    return frame.repartitionById(n_tasks, "task").drop("task")


def gather(frame: DataFrame, function: TaskFunction, *, label: str) -> list[dict[str, Any]]:
    """Run `function` once on each partition of `frame`, and show the progress.

    Returns
    -------
    list of dict
        The values of each `udfs.tasks.summary`, in the order of the partitions; bytes under
        ``payload``.
    """
    context = frame.sparkSession.sparkContext
    context.setJobGroup(label, label)
    with watched(label, lambda: _tasks_done(context, label), unit="tasks"):
        # By Arrow: pickling a payload of 34 MB row by row takes the JVM two seconds each.
        rows = frame.mapInArrow(function, SUMMARY_SCHEMA).toArrow().to_pylist()
    return [_summary(row["summary"], row["payload"]) for row in rows]


def _summary(text: str, payload: bytes | None) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(text)
    return values if payload is None else {**values, "payload": payload}


def _tasks_done(context: Any, group: str) -> tuple[int, int]:
    """Return finished and all tasks of a group's newest stage, the one that runs the function."""
    tracker = context.statusTracker()
    jobs = [tracker.getJobInfo(job_id) for job_id in tracker.getJobIdsForGroup(group)]
    stages = [stage_id for job in jobs if job is not None for stage_id in job.stageIds]
    stage = tracker.getStageInfo(max(stages)) if stages else None
    return (stage.numCompletedTasks, stage.numTasks) if stage is not None else (0, 0)


def no_rows(spark: SparkSession, schema: T.StructType) -> DataFrame:
    """Return a frame without rows."""
    # Not from a list of nothing, for which Spark would start Python workers.
    return spark.createDataFrame(to_arrow_schema(schema).empty_table())


def file_frame(
    spark: SparkSession, files: Sequence[TableFile], most_tasks: int | None = None
) -> DataFrame:
    """Return files of a table, at least one, spread over tasks; a task each when None."""
    n_tasks = min(len(files), most_tasks or len(files))
    rows = pa.table({"file": [json.dumps(file.as_dict()) for file in files]})
    return spread(spark, rows, FILE_SCHEMA, n_tasks)


def map_files(
    spark: SparkSession,
    files: Sequence[TableFile],
    function: TaskFunction,
    schema: T.StructType,
    *,
    most_tasks: int | None = None,
) -> DataFrame:
    """Return the rows that a function yields of files of a table (`udfs.tasks.files_of`)."""
    if not files:
        return no_rows(spark, schema)
    return file_frame(spark, files, most_tasks).mapInArrow(function, schema)


def gather_files(
    spark: SparkSession,
    files: Sequence[TableFile],
    function: TaskFunction,
    *,
    label: str,
    most_tasks: int | None = None,
) -> list[dict[str, Any]]:
    """Return the summaries of a function over files of a table; see `gather`."""
    return gather(file_frame(spark, files, most_tasks), function, label=label) if files else []


def shard_frame(spark: SparkSession, entries: Sequence[ShardEntry]) -> DataFrame:
    """Return the shards that have rows, at least one, a task each."""
    texts = [json.dumps(asdict(entry)) for entry in entries if entry.rows]
    return spread(spark, pa.table({"entry": texts}), SHARD_SCHEMA, len(texts))


def map_shards(
    spark: SparkSession,
    entries: Sequence[ShardEntry],
    function: TaskFunction,
    schema: T.StructType,
) -> DataFrame:
    """Return the rows that a function yields of shards of an index (`udfs.tasks.shards_of`)."""
    if not any(entry.rows for entry in entries):
        return no_rows(spark, schema)
    return shard_frame(spark, entries).mapInArrow(function, schema)


def gather_shards(
    spark: SparkSession, entries: Sequence[ShardEntry], function: TaskFunction, *, label: str
) -> list[dict[str, Any]]:
    """Return the summaries of a function over shards of an index; see `gather`."""
    if not any(entry.rows for entry in entries):
        return []
    return gather(shard_frame(spark, entries), function, label=label)


def require_unique(
    ids: DataFrame, column: str, *, named: str, where: str, remedy: str = "remove the duplicates"
) -> None:
    """Raise `UsageError` when an id stands in several rows of a table.

    Parameters
    ----------
    ids
        The ids of all rows, in `column`.
    named, where, remedy
        For the error: name of the column, name of the table, and what to do.
    """
    repeated = ids.groupBy(column).count().where(F.col("count") > 1)
    first = [row[column] for row in repeated.orderBy(column).limit(5).collect()]
    if first:
        raise UsageError(
            f"expected each {named} once in {where}, found several rows of "
            f"{', '.join(map(repr, first))}; {remedy}"
        )


def search_tasks(spark: SparkSession) -> int:
    """Return in how many tasks to search: more than cores, so that a slow one holds up little."""
    return 3 * spark.sparkContext.defaultParallelism


@contextmanager
def shuffle_partitions(spark: SparkSession, n_partitions: int) -> Iterator[None]:
    """Shuffle into `n_partitions` inside the block; Spark's default is 200, even for a few rows."""
    name = "spark.sql.shuffle.partitions"
    before = str(spark.conf.get(name))
    spark.conf.set(name, n_partitions)
    try:
        yield
    finally:
        spark.conf.set(name, before)
