"""Reads existing rows of a feature table without features: id, status, content, file and row."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import types as T

from pool3.features.table import FeatureTable
from udfs.tasks import Batches, TaskFunction, files_of

EXISTING_SCHEMA = T.StructType(
    [
        T.StructField("file", T.IntegerType(), nullable=False),
        T.StructField("row", T.IntegerType(), nullable=False),
        T.StructField("image_id", T.StringType(), nullable=False),
        T.StructField("uri", T.StringType()),
        T.StructField("status", T.StringType()),
        T.StructField("error", T.StringType()),
        T.StructField("content_sha256", T.StringType()),
        T.StructField("content_length", T.LongType()),
        T.StructField("etag", T.StringType()),
        T.StructField("modified_at", T.TimestampType()),
    ]
)


def read_existing(table: FeatureTable, names: Sequence[str]) -> TaskFunction:
    """Return the function for ``DataFrame.mapInArrow`` that reads the rows of files.

    Parameters
    ----------
    table
        The version to read; the rows given to the function are some of its files.
    names
        Columns to read: those of `EXISTING_SCHEMA`, and ``meta`` if the table has it. ``file`` is
        the index of the file in ``table.files``, ``row`` the row in that file.
    """

    def run(batches: Batches) -> Batches:
        return existing_rows(batches, table, names)

    return run


def existing_rows(batches: Batches, table: FeatureTable, names: Sequence[str]) -> Batches:
    """Yield some columns of the rows of files; a column that a file lacks is null."""
    numbers = {file.path: number for number, file in enumerate(table.files)}
    for file in files_of(batches):
        stored = set(table.file_schema(file).names)
        first = 0
        for batch in table.read(file, [name for name in names if name in stored]):
            yield _with_places(batch, names, numbers[file.path], first)
            first += batch.num_rows


def _with_places(
    batch: pa.RecordBatch, names: Sequence[str], number: int, first: int
) -> pa.RecordBatch:
    count = batch.num_rows
    places = {
        "file": pa.array([number] * count, pa.int32()),
        "row": pa.array(range(first, first + count), pa.int32()),
    }
    columns = []
    for name in names:
        if name in places:
            columns.append(places[name])
        elif name in batch.schema.names:
            columns.append(batch.column(name))
        else:  # the file was written before the column existed
            columns.append(pa.nulls(count, pa.string()))
    return pa.RecordBatch.from_arrays(columns, names=list(names))
