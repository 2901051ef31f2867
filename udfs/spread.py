"""Spreads inputs over tasks and gathers one summary a task: the driver's side of every function.

A task's function takes an iterator of Arrow batches, does its work on the executor, and yields
rows of `SUMMARY_SCHEMA`; only those travel back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from pool3.progress import watched

Batches = Iterator[pa.RecordBatch]
TaskFunction = Callable[[Batches], Batches]

#: What a task tells: facts as JSON, and bytes that JSON would only blow up.
SUMMARY_SCHEMA = T.StructType(
    [
        T.StructField("summary", T.StringType(), nullable=False),
        T.StructField("payload", T.BinaryType()),
    ]
)


def summary(facts: dict[str, Any], payload: bytes | None = None) -> pa.RecordBatch:
    """Return the row that a task yields to tell what it did."""
    columns = [pa.array([json.dumps(facts)]), pa.array([payload], pa.binary())]
    return pa.RecordBatch.from_arrays(columns, names=SUMMARY_SCHEMA.names)


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


def no_rows(spark: SparkSession, schema: T.StructType) -> DataFrame:
    """Return a frame without rows."""
    # Not from a list of nothing, for which Spark would start Python workers.
    return spark.createDataFrame(to_arrow_schema(schema).empty_table())


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
