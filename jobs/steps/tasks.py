"""Rows spread over tasks of a given number, and what tasks send back gathered with progress."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from jobs.runtime.progress import watched
from pool3.index.format.manifest import ShardEntry
from udfs.tasks import SHARD_SCHEMA, SUMMARY_SCHEMA, TaskFunction


@contextmanager
def few_partitions(spark: SparkSession) -> Iterator[None]:
    """Shuffle into as many partitions as a search has tasks, not into 200 of a few rows each."""
    name = "spark.sql.shuffle.partitions"
    before = str(spark.conf.get(name))
    spark.conf.set(name, search_tasks(spark))
    try:
        yield
    finally:
        spark.conf.set(name, before)


def shard_frame(spark: SparkSession, entries: Sequence[ShardEntry]) -> DataFrame:
    """Return the shards that have rows, a task each."""
    texts = [json.dumps(asdict(entry)) for entry in entries if entry.rows]
    return spread(spark, pa.table({"entry": texts}), SHARD_SCHEMA, len(texts))


def search_tasks(spark: SparkSession) -> int:
    """Return in how many tasks to search: more than cores, so that a slow one holds up little."""
    return 3 * spark.sparkContext.defaultParallelism


def spread(spark: SparkSession, rows: pa.Table, schema: T.StructType, n_tasks: int) -> DataFrame:
    """Return `rows` in exactly `n_tasks` partitions, dealt in turn like cards.

    Neighbours in a listing are alike (a folder of huge scans, a folder of icons); dealing them
    keeps the tasks even.
    """
    turns = pa.array([i % n_tasks for i in range(rows.num_rows)], pa.int32())
    dealt = spark.createDataFrame(
        rows.append_column("task", turns),
        schema=T.StructType([*schema.fields, T.StructField("task", T.IntegerType())]),
    )
    return dealt.repartitionById(n_tasks, "task").drop("task")


def gather(frame: DataFrame, function: TaskFunction, *, label: str) -> list[dict[str, Any]]:
    """Run `function` once on each partition of `frame`, and show the progress.

    Returns
    -------
    list of dict
        The facts of each `summary`, in the order of the partitions; bytes under ``payload``.
    """
    context = frame.sparkSession.sparkContext
    context.setJobGroup(label, label)
    with watched(label, lambda: _tasks_done(context, label), unit="tasks"):
        # By Arrow: pickling a payload of 34 MB row by row takes the JVM two seconds each.
        rows = frame.mapInArrow(function, SUMMARY_SCHEMA).toArrow().to_pylist()
    return [_facts(row["summary"], row["payload"]) for row in rows]


def _facts(text: str, payload: bytes | None) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(text)
    return facts if payload is None else {**facts, "payload": payload}


def _tasks_done(context: Any, group: str) -> tuple[int, int]:
    """Return finished and all tasks of a group's newest stage, the one that runs the function."""
    tracker = context.statusTracker()
    jobs = [tracker.getJobInfo(job_id) for job_id in tracker.getJobIdsForGroup(group)]
    stages = [stage_id for job in jobs if job is not None for stage_id in job.stageIds]
    stage = tracker.getStageInfo(max(stages)) if stages else None
    return (stage.numCompletedTasks, stage.numTasks) if stage is not None else (0, 0)
