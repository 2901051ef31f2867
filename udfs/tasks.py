"""What a task is given and what it sends back: files, shards, one summary.

A task's function takes an iterator of Arrow batches, does its work on the executor, and yields
Arrow batches: rows of a frame, or one row of `SUMMARY_SCHEMA`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import types as T

from pool3.index.format.json_fields import Fields
from pool3.index.format.manifest import ShardEntry
from pool3.storage.tables import TableFile

Batches = Iterator[pa.RecordBatch]
TaskFunction = Callable[[Batches], Batches]

#: What a task sends back: values as JSON, and bytes that JSON would only blow up.
SUMMARY_SCHEMA = T.StructType(
    [
        T.StructField("summary", T.StringType(), nullable=False),
        T.StructField("payload", T.BinaryType()),
    ]
)


def summary(values: dict[str, Any], payload: bytes | None = None) -> pa.RecordBatch:
    """Return the one row that a task yields of what it did."""
    columns = [pa.array([json.dumps(values)]), pa.array([payload], pa.binary())]
    return pa.RecordBatch.from_arrays(columns, names=SUMMARY_SCHEMA.names)


FILE_SCHEMA = T.StructType([T.StructField("file", T.StringType(), nullable=False)])


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
