"""The existing rows of the feature table as a frame without features."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_type

from jobs.steps.tasks import map_files
from pool3.extract.reuse import ExistingContent
from pool3.features.schema import OK
from pool3.features.table import FeatureTable
from udfs.existing import EXISTING_SCHEMA, read_existing

MAX_EXISTING_CONTENT = 10_000_000


def existing_rows(spark: SparkSession, table: FeatureTable, meta: pa.DataType | None) -> DataFrame:
    """Return the rows of a table without features: id, status, content, file and row.

    Parameters
    ----------
    meta
        Type of the column ``meta``, None to leave it out.
    """
    schema = EXISTING_SCHEMA
    if meta is not None:
        schema = T.StructType(
            [*EXISTING_SCHEMA.fields, T.StructField("meta", from_arrow_type(meta))]
        )
    return map_files(spark, table.files, read_existing(table, schema.names), schema)


def existing_content(existing: DataFrame) -> ExistingContent | None:
    """Collect where features are stored by content, 40 bytes per row; None for larger tables."""
    rows = existing.where((F.col("status") == OK) & F.col("content_sha256").isNotNull())
    places = rows.select("content_sha256", "file", "row").limit(MAX_EXISTING_CONTENT + 1).toArrow()
    if places.num_rows in (0, MAX_EXISTING_CONTENT + 1):
        return None
    return ExistingContent.of(*(column.to_pylist() for column in places.columns))
