"""Inputs of an extraction read by tasks: from listings, from tables, from rows of a query."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark import TaskContext

from pool3.inputs.columns import TableColumns
from pool3.inputs.listed import read_listing
from pool3.inputs.readers import read_share
from pool3.inputs.rows import ROWS_A_FILE, RowMaker
from pool3.inputs.table_files import Share
from pool3.inputs.types import cast
from udfs.tasks import Batches, TaskFunction

POSITION = "_pool3_position"


def _lines(batches: Batches) -> Iterator[str]:
    for batch in batches:
        yield from batch.column("share").to_pylist()


def read_listings(batches: Batches) -> Batches:
    """Yield the inputs that stand in files of listings, given by uri in ``share``."""
    for file in _lines(batches):
        yield from read_listing(file)


def rows_of_shares(given: pa.Schema, columns: TableColumns, maker: RowMaker) -> TaskFunction:
    """Return the function that reads shares of tables and yields inputs."""

    def run(batches: Batches) -> Batches:
        for position, batch in _read(batches, given, columns):
            yield from maker.rows(batch, _positions(position, batch.num_rows))

    return run


def own_columns(given: pa.Schema, columns: TableColumns) -> TaskFunction:
    """Return the function that reads shares of tables as they are, each row with its position."""

    def run(batches: Batches) -> Batches:
        for position, batch in _read(batches, given, columns):
            yield batch.append_column(POSITION, _positions(position, batch.num_rows))

    return run


def _read(
    batches: Batches, given: pa.Schema, columns: TableColumns
) -> Iterator[tuple[int, pa.RecordBatch]]:
    for line in _lines(batches):
        yield from read_share(Share.from_json(line), given, columns.carried)


def _positions(first: int, count: int) -> pa.Array:
    return pa.array(range(first, first + count), pa.int64())


def rows_of_own(columns: TableColumns, maker: RowMaker) -> TaskFunction:
    """Return the function that makes inputs of rows that `own_columns` read."""

    def run(batches: Batches) -> Batches:
        for batch in batches:
            yield from maker.rows(_carried(batch, columns.carried), batch.column(POSITION))

    return run


def _carried(batch: pa.RecordBatch, carried: pa.Schema) -> pa.RecordBatch:
    """Give a batch that came through the JVM its types back: it has zones and names of its own."""
    arrays = [cast(batch.column(column.name), column.type) for column in carried]
    return pa.RecordBatch.from_arrays(arrays, schema=carried)


def rows_of_partition(columns: TableColumns, maker: RowMaker) -> TaskFunction:
    """Return the function that makes inputs of rows of any frame, placed by partition and row."""

    def run(batches: Batches) -> Batches:
        context = TaskContext.get()
        first = 0 if context is None else context.partitionId() * ROWS_A_FILE
        for batch in batches:
            positions = _positions(first, batch.num_rows)
            first += batch.num_rows
            yield from maker.rows(_carried(batch, columns.carried), positions)

    return run
