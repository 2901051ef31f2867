"""What a feature table holds, without features: rows of id, state and place, and of content."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import types as T

from pool3.features.table import FeatureTable
from udfs.tasks import Batches, TaskFunction, files_of

KNOWN = T.StructType(
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


def read_known(table: FeatureTable, names: list[str]) -> TaskFunction:
    """Return the function that reads some columns of files, each row with its file and place."""
    numbers = {file.path: number for number, file in enumerate(table.files)}

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            held = set(table.file_schema(file).names)
            first = 0
            for batch in table.read(file, [name for name in names if name in held]):
                yield _with_places(batch, names, numbers[file.path], first)
                first += batch.num_rows

    return run


def _with_places(
    batch: pa.RecordBatch, names: list[str], number: int, first: int
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
        else:  # written before there was such a column
            columns.append(pa.nulls(count, pa.string()))
    return pa.RecordBatch.from_arrays(columns, names=names)
