"""Reads the inputs of an extraction: staged listings, tables of inputs, and rows of a query."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pool3.inputs.columns import TableColumns
from pool3.inputs.listed import read_listing
from pool3.inputs.readers import read_share
from pool3.inputs.rows import POSITIONS_PER_FILE, RowMaker
from pool3.inputs.table_files import Share
from pool3.inputs.types import cast
from udfs.tasks import Batches, TaskFunction, partition_number

POSITION = "_pool3_position"


def _lines(batches: Batches) -> Iterator[str]:
    for batch in batches:
        yield from batch.column("share").to_pylist()


def read_listings(batches: Batches) -> Batches:
    """Yield the input rows of staged listings, whose uris are in the column ``share``."""
    for file in _lines(batches):
        yield from read_listing(file)


def read_shares(schema: pa.Schema, columns: TableColumns, maker: RowMaker) -> TaskFunction:
    """Return the function that reads shares of tables as input rows.

    Parameters
    ----------
    schema
        Columns of the tables, under their own types.
    columns
        The same columns under the types that the feature table carries.
    maker
        Makes the input rows.
    """

    def run(batches: Batches) -> Batches:
        return input_rows_of_shares(batches, schema, columns, maker)

    return run


def input_rows_of_shares(
    batches: Batches, schema: pa.Schema, columns: TableColumns, maker: RowMaker
) -> Batches:
    """Yield the input rows of shares, given as JSON in the column ``share``."""
    for position, batch in _read(batches, schema, columns):
        yield from maker.rows(batch, _positions(position, batch.num_rows))


def read_source_rows(schema: pa.Schema, columns: TableColumns) -> TaskFunction:
    """Return the function that reads shares of tables as they are, each row with its position."""

    def run(batches: Batches) -> Batches:
        return source_rows(batches, schema, columns)

    return run


def source_rows(batches: Batches, schema: pa.Schema, columns: TableColumns) -> Batches:
    """Yield the rows of shares with one more column, `POSITION`."""
    for position, batch in _read(batches, schema, columns):
        yield batch.append_column(POSITION, _positions(position, batch.num_rows))


def _read(
    batches: Batches, schema: pa.Schema, columns: TableColumns
) -> Iterator[tuple[int, pa.RecordBatch]]:
    for line in _lines(batches):
        yield from read_share(Share.from_json(line), schema, columns.carried)


def _positions(first: int, count: int) -> pa.Array:
    return pa.array(range(first, first + count), pa.int64())


def convert_source_rows(columns: TableColumns, maker: RowMaker) -> TaskFunction:
    """Return the function that makes input rows of rows from `read_source_rows`."""

    def run(batches: Batches) -> Batches:
        return input_rows_of_source(batches, columns, maker)

    return run


def input_rows_of_source(batches: Batches, columns: TableColumns, maker: RowMaker) -> Batches:
    """Yield the input rows of rows that have the column `POSITION`."""
    for batch in batches:
        yield from maker.rows(_with_types(batch, columns.carried), batch.column(POSITION))


def _with_types(batch: pa.RecordBatch, carried: pa.Schema) -> pa.RecordBatch:
    """Restore the types of a batch from the JVM, whose time zones and field names differ."""
    arrays = [cast(batch.column(column.name), column.type) for column in carried]
    return pa.RecordBatch.from_arrays(arrays, schema=carried)


def convert_query_rows(columns: TableColumns, maker: RowMaker) -> TaskFunction:
    """Return the function that makes input rows of rows of any frame.

    Positions follow from the partition and the row in it.
    """

    def run(batches: Batches) -> Batches:
        return input_rows_of_query(batches, columns, maker, partition_number())

    return run


def input_rows_of_query(
    batches: Batches, columns: TableColumns, maker: RowMaker, partition: int
) -> Batches:
    """Yield the input rows of one partition of a frame."""
    first = partition * POSITIONS_PER_FILE
    for batch in batches:
        positions = _positions(first, batch.num_rows)
        first += batch.num_rows
        yield from maker.rows(_with_types(batch, columns.carried), positions)
