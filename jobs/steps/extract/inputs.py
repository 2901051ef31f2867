"""The inputs of an extraction as a frame: listed by the driver, or read from tables by tasks.

Nothing is collected: the driver holds names of files, and rows are made where they are read.
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
    own_columns,
    read_listings,
    rows_of_own,
    rows_of_partition,
    rows_of_shares,
)

_SHARE_SCHEMA = T.StructType([T.StructField("share", T.StringType(), nullable=False)])


@dataclass(frozen=True)
class Inventory:
    """Every input as a row of work.

    `frame` has the columns of `pool3.inputs.rows.row_schema`: image_id, uri, size, etag,
    modified_at, refused, position, and content_sha256 and meta where the input has them. `meta` is
    the type of the last. `set_aside` counts what is no input, by reason. `contents` gives rows of
    the frame their bytes, where the input holds them: they take no part in what is compared.
    """

    frame: DataFrame
    meta: pa.StructType | None
    set_aside: dict[str, int] = field(default_factory=dict)
    contents: InputContents | None = None


def inventory(spark: SparkSession, options: InputOptions, *, staging: str) -> Inventory:
    """Return every input of a run.

    Parameters
    ----------
    spark
        The session; nothing runs in it yet.
    options
        Where the inputs are.
    staging
        Canonical uri of a folder that executors can read. A listing of pictures is written there,
        and must stay as long as the frame is used.

    Raises
    ------
    UsageError
        There are no inputs, or they are not what the options say. Rows that are wrong fail as such
        when the frame is read.
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
    given = _schema(tables[0])
    for table in tables[1:]:
        require_same(given, _schema(table), table.uri)
    columns = table_columns(given, options, tables[0].uri)
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
        rows = frame.mapInArrow(rows_of_shares(given, columns, maker), spark_schema)
    else:
        placed = columns.carried.append(pa.field(POSITION, pa.int64()))
        own = frame.mapInArrow(own_columns(given, columns), from_arrow_schema(placed))
        rows = _where(own, options.where).mapInArrow(rows_of_own(columns, maker), spark_schema)
    column = columns.roles.get("content")
    contents = None if column is None else FileContents(shares, column)
    return Inventory(rows, columns.meta, dict(set_aside), contents)


def _table_inputs(options: InputOptions) -> list[TableInput]:
    tables: list[TableInput] = []
    number = 0
    for where in options.inputs:
        table = table_input(
            where, glob=options.glob, first_number=number, csv_columns=options.csv_columns
        )
        number = table.shares[-1].number + 1
        tables.append(table)
    return tables


def _schema(table: TableInput) -> pa.Schema:
    return table.schema if table.schema is not None else share_schema(table.shares[0])


def _n_tasks(spark: SparkSession, tables: Sequence[TableInput], n_shares: int) -> int:
    """Return one task for each share, but no more tasks than the bytes are worth."""
    size = sum(table.bytes for table in tables)
    worth = max(4 * spark.sparkContext.defaultParallelism, math.ceil(size / SHARE_BYTES))
    return min(n_shares, worth)


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
        own = spark.table(name)
    except AnalysisException as error:
        raise UsageError(
            f"expected a table of Spark's catalog, found none called {name}; check --input-table"
        ) from error
    columns = table_columns(_arrow_schema(own, name), options, name)
    if options.where is not None:
        own = _where(own, options.where)

    def rows(*, content: bool) -> DataFrame:
        maker = RowMaker(columns, options, [(0, f"table:{name}")], content=content)
        return own.mapInArrow(rows_of_partition(columns, maker), from_arrow_schema(maker.schema))

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
                f"found {column.dataType.simpleString()}; cast or leave out the column"
            ) from error
        fields.append(pa.field(column.name, kind))
    return pa.schema(fields)
