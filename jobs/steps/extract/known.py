"""What the feature table holds already, as a frame without features."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_type

from jobs.steps.tasks import spread
from pool3.extract.reuse import KnownContent
from pool3.features.schema import OK
from pool3.features.table import FeatureTable
from udfs.known import KNOWN, read_known
from udfs.tasks import FILE_SCHEMA, file_rows

MOST_KNOWN_CONTENT = 10_000_000


def known_rows(spark: SparkSession, table: FeatureTable, meta: pa.DataType | None) -> DataFrame:
    """Return what the table holds, without features: rows of id, state and where they stand."""
    schema = KNOWN
    if meta is not None:
        schema = T.StructType([*KNOWN.fields, T.StructField("meta", from_arrow_type(meta))])
    files = spread(spark, file_rows(table.files), FILE_SCHEMA, len(table.files))
    return files.mapInArrow(read_known(table, schema.names), schema)


def known_content(known: DataFrame) -> KnownContent | None:
    """Collect where features stand by content: 40 bytes a row, and nothing of larger tables."""
    rows = known.where((F.col("status") == OK) & F.col("content_sha256").isNotNull())
    found = rows.select("content_sha256", "file", "row").limit(MOST_KNOWN_CONTENT + 1).toArrow()
    if found.num_rows in (0, MOST_KNOWN_CONTENT + 1):
        return None
    return KnownContent.of(*(found.column(number).to_pylist() for number in range(3)))
