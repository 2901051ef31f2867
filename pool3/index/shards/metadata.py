"""The metadata of a shard's rows, some of it replaced: apart from the shard, whose trees stay."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_ROWS_AT_ONCE = 4096


def merged_schema(old: pa.Schema, new: pa.Schema) -> pa.Schema:
    """Return the columns of `old`, those that `new` has too in its types, and then its others."""
    kept = [
        new.field(field.name) if field.name in new.names else pa.field(field.name, field.type)
        for field in old
    ]
    added = [field for field in new if field.name not in old.names]
    return pa.schema([*kept, *added])


def replaced(
    old: pa.Table | None, rows: npt.NDArray[np.int32], new: pa.Table, n_rows: int
) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Yield a shard's metadata, some values of it replaced, and whether a batch differs.

    Parameters
    ----------
    old
        The metadata of all `n_rows` rows, or None.
    rows
        int32, ascending: the rows that something is told of.
    new
        What is told of each of them.

    Yields
    ------
    batch
        The next rows, in the columns of `merged_schema`; a value that nobody tells is null.
    differs
        Whether that is another than before.
    """
    before = pa.table({}) if old is None else old
    schema = merged_schema(before.schema, new.schema)
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        stop = min(n_rows, start + _ROWS_AT_ONCE)
        first, last = np.searchsorted(rows, [start, stop])
        told = new.slice(first, last - first)
        places = np.arange(stop - start)
        places[rows[first:last] - start] = stop - start + np.arange(last - first)
        arrays = [
            _replaced(_column(before, field, start, stop), told, field, places) for field in schema
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        differs = old is None or not pa.Table.from_batches([batch]).equals(
            before.slice(start, stop - start)
        )
        yield batch, differs


def _column(table: pa.Table, field: pa.Field, start: int, stop: int) -> pa.Array:
    if field.name not in table.schema.names:
        return pa.nulls(stop - start, field.type)
    return pa.array(table.column(field.name).slice(start, stop - start).combine_chunks()).cast(
        field.type
    )


def _replaced(
    values: pa.Array, told: pa.Table, field: pa.Field, places: npt.NDArray[np.int64]
) -> pa.Array:
    if field.name not in told.schema.names:
        return values
    column = told.column(field.name).cast(field.type).combine_chunks()
    chunks = [values, *(column.chunks if isinstance(column, pa.ChunkedArray) else [column])]
    return pa.concat_arrays(chunks).take(pa.array(places))
