"""The inputs of an extraction as a frame: listed by the driver, or read from tables by tasks.

Nothing is collected: the driver has file names, and tasks make the rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from jobs.steps.extract.contents import FileContents, InputContents, RowContents
from jobs.steps.tasks import spread
from pool3.errors import UsageError
from pool3.inputs import InputOptions
from pool3.inputs.columns import table_columns
from pool3.inputs.listed import stage_listing
from pool3.inputs.readers import share_schema
from pool3.inputs.rows import RowMaker, row_schema
from pool3.inputs.table_files import SHARE_BYTES, TableInput, require_same, table_input
from udfs.inputs import (
    POSITION,
    convert_query_rows,
    convert_source_rows,
    read_listings,
    read_shares,
    read_source_rows,
)

_SHARE_SCHEMA = T.StructType([T.StructField("share", T.StringType(), nullable=False)])


@dataclass(frozen=True)
class Inventory:
    """All inputs of a run.

    Attributes
    ----------
    frame
        One row per input, with the columns of `pool3.inputs.rows.row_schema`; ``content_sha256``
        and ``meta`` only if the input has them, and never ``content``.
    meta
        Type of the column ``meta``, None without one.
    set_aside
        Counts of the objects that are not inputs, by reason.
    contents
        Adds the bytes to rows of the frame, None unless the input contains them.
    """

    frame: DataFrame
    meta: pa.StructType | None
    set_aside: dict[str, int] = field(default_factory=dict)
    contents: InputContents | None = None


def inventory(spark: SparkSession, options: InputOptions, *, staging: str) -> Inventory:
    """Return all inputs of a run.

    Parameters
    ----------
    spark
        The session; no Spark job runs yet.
    options
        Where the inputs are.
    staging
        Canonical uri of a folder that executors can read. A listing of pictures is written there;
        it must exist as long as the frame is used.

    Raises
    ------
    UsageError
        There are no inputs, or they do not match the options. Invalid rows raise errors when the
        frame is read.
    """
    if options.input_table is not None:
        return _from_catalog(spark, options, options.input_table)
    if options.tables:
        return _from_tables(spark, options)
    listing = stage_listing(options, staging)
    frame = _spread_lines(spark, listing.files, len(listing.files))
    rows = frame.mapInArrow(read_listings, from_arrow_schema(row_schema()))
    return Inventory(rows, None, listing.set_aside)


def _spread_lines(spark: SparkSession, lines: Sequence[str], n_tasks: int) -> DataFrame:
    return spread(spark, pa.table({"share": list(lines)}), _SHARE_SCHEMA, n_tasks)


def _from_tables(spark: SparkSession, options: InputOptions) -> Inventory:
    tables = _table_inputs(options)
    schema = _schema(tables[0])
    for table in tables[1:]:
        require_same(schema, _schema(table), table.uri)
    columns = table_columns(schema, options, tables[0].uri)
    shares = [share for table in tables for share in table.shares]
    sources = [(table.shares[0].number, table.uri) for table in tables]
    frame = _spread_lines(
        spark, [share.to_json() for share in shares], _n_tasks(spark, tables, len(shares))
    )
    maker = RowMaker(columns, options, sources)
    set_aside: Counter[str] = Counter()
    for table in tables:
        set_aside.update(table.set_aside)
    spark_schema = from_arrow_schema(maker.schema)
    if options.where is None:
        rows = frame.mapInArrow(read_shares(schema, columns, maker), spark_schema)
    else:
        placed = columns.carried.append(pa.field(POSITION, pa.int64()))
        source = frame.mapInArrow(read_source_rows(schema, columns), from_arrow_schema(placed))
        selected = _where(source, options.where)
        rows = selected.mapInArrow(convert_source_rows(columns, maker), spark_schema)
    column = columns.roles.get("content")
    contents = None if column is None else FileContents(shares, column)
    return Inventory(rows, columns.meta, dict(set_aside), contents)


def _table_inputs(options: InputOptions) -> list[TableInput]:
    tables: list[TableInput] = []
    number = 0
    for where in options.inputs:
        table = table_input(
            where,
            glob=options.glob,
            first_number=number,
            csv_columns=options.csv_columns,
            csv_escape=options.csv_escape,
        )
        number = table.shares[-1].number + 1
        tables.append(table)
    return tables


def _schema(table: TableInput) -> pa.Schema:
    return table.schema if table.schema is not None else share_schema(*table.shares)


def _n_tasks(spark: SparkSession, tables: Sequence[TableInput], n_shares: int) -> int:
    """Return one task per share, limited by the number of bytes."""
    size = sum(table.bytes for table in tables)
    limit = max(4 * spark.sparkContext.defaultParallelism, math.ceil(size / SHARE_BYTES))
    return min(n_shares, limit)


def _where(frame: DataFrame, condition: str) -> DataFrame:
    try:
        return frame.where(condition)
    except AnalysisException as error:
        reason = str(error).split("\n", 1)[0]
        raise UsageError(
            "expected --input-where to be a condition over the input's own columns, found "
            f"{condition!r} ({reason}); correct it"
        ) from error


def _from_catalog(spark: SparkSession, options: InputOptions, name: str) -> Inventory:
    try:
        source = spark.table(name)
    except AnalysisException as error:
        raise UsageError(
            f"expected a table of Spark's catalog, found none called {name}; check --input-table"
        ) from error
    columns = table_columns(_arrow_schema(source, name), options, name)
    if options.where is not None:
        source = _where(source, options.where)

    def rows(*, content: bool) -> DataFrame:
        maker = RowMaker(columns, options, [(0, f"table:{name}")], content=content)
        function = convert_query_rows(columns, maker)
        return source.mapInArrow(function, from_arrow_schema(maker.schema))

    contents = RowContents(rows(content=True)) if "content" in columns.roles else None
    return Inventory(rows(content=False), columns.meta, contents=contents)


def _arrow_schema(frame: DataFrame, name: str) -> pa.Schema:
    fields = []
    for column in frame.schema:
        try:
            kind = to_arrow_schema(T.StructType([column]), timezone="UTC").field(0).type
        except PySparkException as error:
            raise UsageError(
                f"expected a type that a Delta table can carry in column {column.name} of {name}, "
                f"found {column.dataType.simpleString()}; cast or drop the column"
            ) from error
        fields.append(pa.field(column.name, kind))
    return pa.schema(fields)
