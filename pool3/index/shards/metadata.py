"""New metadata for some rows of a shard, without rebuilding its tree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_ROWS_AT_ONCE = 4096


def merged_schema(old: pa.Schema, new: pa.Schema) -> pa.Schema:
    """Return the columns of `old`, of which those in `new` have its types, then the new ones."""
    existing = [
        new.field(field.name) if field.name in new.names else pa.field(field.name, field.type)
        for field in old
    ]
    added = [field for field in new if field.name not in old.names]
    return pa.schema([*existing, *added])


def replace_rows(
    old: pa.Table | None, rows: npt.NDArray[np.int32], new: pa.Table, n_rows: int
) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Yield the metadata of a shard with new values for some rows, batch by batch.

    Parameters
    ----------
    old
        The metadata of all `n_rows` rows, or None.
    rows
        int32, ascending: the rows that have new values.
    new
        The new values of each of them.

    Yields
    ------
    batch
        The next rows, in the columns of `merged_schema`; null where there is no value.
    differs
        Whether the batch differs from the old metadata.
    """
    before = pa.table({}) if old is None else old
    schema = merged_schema(before.schema, new.schema)
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        stop = min(n_rows, start + _ROWS_AT_ONCE)
        first, last = np.searchsorted(rows, [start, stop])
        updates = new.slice(first, last - first)
        places = np.arange(stop - start)
        places[rows[first:last] - start] = stop - start + np.arange(last - first)
        arrays = [
            _updated(_column(before, field, start, stop), updates, field, places)
            for field in schema
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


def _updated(
    values: pa.Array, updates: pa.Table, field: pa.Field, places: npt.NDArray[np.int64]
) -> pa.Array:
    """Return old values followed by new ones, taken by their places in that sequence."""
    if field.name not in updates.schema.names:
        return values
    column = updates.column(field.name).cast(field.type).combine_chunks()
    chunks = [values, *(column.chunks if isinstance(column, pa.ChunkedArray) else [column])]
    return pa.concat_arrays(chunks).take(pa.array(places))
