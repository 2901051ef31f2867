"""Spreads inputs over tasks and gathers one summary a task: the driver's side of every function.

A task's function takes an iterator of Arrow batches, does its work on the executor, and yields
rows of `SUMMARY_SCHEMA`; only those travel back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from pool3.index.format.json_fields import Fields
from pool3.index.format.manifest import ShardEntry
from pool3.storage.tables import TableFile

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


def no_rows(spark: SparkSession, schema: T.StructType) -> DataFrame:
    """Return a frame without rows."""
    # Not from a list of nothing, for which Spark would start Python workers.
    return spark.createDataFrame(to_arrow_schema(schema).empty_table())


FILE_SCHEMA = T.StructType([T.StructField("file", T.StringType(), nullable=False)])


def file_rows(files: Sequence[TableFile]) -> pa.Table:
    """Return files as rows of `FILE_SCHEMA`."""
    return pa.table({"file": [json.dumps(file.as_dict()) for file in files]})


def files_of(batches: Batches) -> Iterator[TableFile]:
    """Yield the files that a task was given."""
    for batch in batches:
        for text in batch.column("file").to_pylist():
            yield TableFile.from_dict(json.loads(text))


SHARD_SCHEMA = T.StructType([T.StructField("entry", T.StringType(), nullable=False)])


def shards_of(batches: Batches) -> Iterator[ShardEntry]:
    """Yield the shards that a task was given."""
    for batch in batches:
        for text in batch.column("entry").to_pylist():
            yield ShardEntry.read(Fields(json.loads(text), "a task's shard"))
