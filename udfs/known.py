"""What a feature table holds, without features: rows of id, state and place, and of content."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_type

from pool3.features.schema import OK
from pool3.features.table import FeatureTable
from pool3.features.twins import KnownContent
from udfs.files import FILE_SCHEMA, file_rows, files_of
from udfs.spread import Batches, TaskFunction, spread

MOST_KNOWN_CONTENT = 10_000_000

_KNOWN = T.StructType(
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


def known_rows(spark: SparkSession, table: FeatureTable, meta: pa.DataType | None) -> DataFrame:
    """Return what the table holds, without features: rows of id, state and where they stand."""
    schema = _KNOWN
    if meta is not None:
        schema = T.StructType([*_KNOWN.fields, T.StructField("meta", from_arrow_type(meta))])
    files = spread(spark, file_rows(table.files), FILE_SCHEMA, len(table.files))
    return files.mapInArrow(_read_known(table, schema.names), schema)


def _read_known(table: FeatureTable, names: list[str]) -> TaskFunction:
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


def known_content(known: DataFrame) -> KnownContent | None:
    """Collect where features stand by content: 40 bytes a row, and nothing of larger tables."""
    rows = known.where((F.col("status") == OK) & F.col("content_sha256").isNotNull())
    found = rows.select("content_sha256", "file", "row").limit(MOST_KNOWN_CONTENT + 1).toArrow()
    if found.num_rows in (0, MOST_KNOWN_CONTENT + 1):
        return None
    return KnownContent.of(*(found.column(number).to_pylist() for number in range(3)))
