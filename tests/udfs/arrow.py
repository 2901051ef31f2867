"""Task functions called without Spark: Arrow batches in, rows or summaries out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from pool3.index.snapshots.snapshot import open_snapshot
from pool3.storage.tables import TableFile
from udfs.search import GroupedSnapshot
from udfs.tasks import TaskFunction

Value = TypeVar("Value")


@dataclass(frozen=True)
class Broadcast(Generic[Value]):
    """Stands for Spark's broadcast."""

    value: Value


def run(function: TaskFunction, batches: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Pickle a function as Spark does, and call what comes out of that."""
    shipped: TaskFunction = cloudpickle.loads(cloudpickle.dumps(function))
    return list(shipped(iter(batches)))


def rows(
    function: TaskFunction, batches: Iterable[pa.RecordBatch], schema: T.StructType | pa.Schema
) -> list[dict[str, Any]]:
    """Return the rows that a function yields, which have exactly the columns of a schema."""
    expected = schema if isinstance(schema, pa.Schema) else to_arrow_schema(schema)
    result = []
    for batch in run(function, batches):
        assert batch.schema.names == expected.names
        assert batch.schema.types == expected.types
        result += batch.to_pylist()
    return result


def summaries(function: TaskFunction, batches: Iterable[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Return the summaries that a function yields, as the driver reads them."""
    result = []
    for batch in run(function, batches):
        assert batch.schema.names == ["summary", "payload"]
        for row in batch.to_pylist():
            values = json.loads(row["summary"])
            result.append(
                values if row["payload"] is None else {**values, "payload": row["payload"]}
            )
    return result


def file_batches(files: Sequence[TableFile], size: int = 2) -> Iterator[pa.RecordBatch]:
    """Yield files as a task is given them."""
    yield from in_batches([{"file": json.dumps(file.as_dict())} for file in files], size)


def shard_batches(index: GroupedSnapshot, size: int = 2) -> Iterator[pa.RecordBatch]:
    """Yield all shards of an index as a task is given them."""
    entries = index.snapshot.manifest.shards
    yield from in_batches([{"entry": json.dumps(asdict(entry))} for entry in entries], size)


def in_batches(
    values: Sequence[dict[str, Any]], size: int, schema: pa.Schema | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield rows in batches, with an empty one between them."""
    for start in range(0, len(values), size):
        batch = pa.RecordBatch.from_pylist(values[start : start + size], schema=schema)
        yield batch
        yield batch.slice(0, 0)


def grouped(directory: Path | str, max_bytes: int = 1 << 40) -> Broadcast[GroupedSnapshot]:
    """Open the newest snapshot of an index as jobs broadcast it."""
    return Broadcast(GroupedSnapshot.of(open_snapshot(directory), max_bytes))
