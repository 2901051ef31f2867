"""Inputs and outputs of tasks: files or shards in, rows or one summary out.

A task function takes an iterator of Arrow batches, does its work on the executor, and yields Arrow
batches: rows of a frame, or one row of `SUMMARY_SCHEMA`. The functions of this package that return
a task function only bind its arguments; the work is done by a function of the module, which can be
called without Spark.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import types as T

from pool3.index.format.entries import ShardEntry
from pool3.index.format.json_fields import Fields
from pool3.storage.tables import TableFile

Batches = Iterator[pa.RecordBatch]
TaskFunction = Callable[[Batches], Batches]

T_co = TypeVar("T_co", covariant=True)


class Broadcast(Protocol[T_co]):
    """A value that Spark sends to each executor once, as `pyspark.Broadcast` does."""

    @property
    def value(self) -> T_co:
        """The value; the first use in a Python worker loads it."""
        ...


def partition_number() -> int:
    """Return the number of the partition that this task works on, 0 outside of Spark."""
    context = TaskContext.get()
    return 0 if context is None else context.partitionId()


#: What a task returns to the driver: values as JSON, and bytes for what would be large as JSON.
SUMMARY_SCHEMA = T.StructType(
    [
        T.StructField("summary", T.StringType(), nullable=False),
        T.StructField("payload", T.BinaryType()),
    ]
)


def summary(values: dict[str, Any], payload: bytes | None = None) -> pa.RecordBatch:
    """Return the row that a task yields as its summary."""
    columns = [pa.array([json.dumps(values)]), pa.array([payload], pa.binary())]
    return pa.RecordBatch.from_arrays(columns, names=SUMMARY_SCHEMA.names)


FILE_SCHEMA = T.StructType([T.StructField("file", T.StringType(), nullable=False)])


def files_of(batches: Batches) -> Iterator[TableFile]:
    """Yield the files that are a task's input."""
    for batch in batches:
        for text in batch.column("file").to_pylist():
            yield TableFile.from_dict(json.loads(text))


SHARD_SCHEMA = T.StructType([T.StructField("entry", T.StringType(), nullable=False)])


def shards_of(batches: Batches) -> Iterator[ShardEntry]:
    """Yield the shards that are a task's input."""
    for batch in batches:
        for text in batch.column("entry").to_pylist():
            yield ShardEntry.read(Fields(json.loads(text), "a task's shard"))
