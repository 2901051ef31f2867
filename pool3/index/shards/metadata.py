"""New metadata for some rows of a shard, without rebuilding its tree."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.features.column_types import to_stored, unify

_ROWS_AT_ONCE = 4096


def merged_schema(old: pa.Schema, new: pa.Schema) -> pa.Schema:
    """Return the columns of `old`, then the other columns of `new`.

    A column of both gets a type that can store the values of both, text if there is no other.
    """
    existing = [
        pa.field(field.name, unify(field.type, new.field(field.name).type))
        if field.name in new.names
        else pa.field(field.name, field.type)
        for field in old
    ]
    added = [field for field in new if field.name not in old.names]
    return pa.schema([*existing, *added])


def unified_schema(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Return the columns of all shards; see `merged_schema`."""
    return functools.reduce(merged_schema, schemas, pa.schema([]))


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
        The next rows, in the columns of `merged_schema`. A column has the type of `new` if its
        remaining old values can be stored in that; null where there is no value.
    differs
        Whether the batch differs from the old metadata.
    """
    before = pa.table({}) if old is None else old
    stays = np.ones(n_rows, dtype=np.bool_)
    stays[rows] = False
    schema = _newest_types(before, stays, new.schema)
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        stop = min(n_rows, start + _ROWS_AT_ONCE)
        first, last = np.searchsorted(rows, [start, stop])
        updates = new.slice(first, last - first)
        places = np.arange(stop - start)
        places[rows[first:last] - start] = stop - start + np.arange(last - first)
        arrays = [
            _updated(_column(before, field, start, stays[start:stop]), updates, field, places)
            for field in schema
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        differs = old is None or not pa.Table.from_batches([batch]).equals(
            before.slice(start, stop - start)
        )
        yield batch, differs


def _newest_types(old: pa.Table, stays: npt.NDArray[np.bool_], new: pa.Schema) -> pa.Schema:
    return pa.schema(
        [
            new.field(field.name)
            if field.name in new.names and _can_take(new.field(field.name), old, stays)
            else field
            for field in merged_schema(old.schema, new)
        ]
    )


def _can_take(field: pa.Field, old: pa.Table, stays: npt.NDArray[np.bool_]) -> bool:
    """Return whether the remaining old values can be stored in the type of a field."""
    if field.name not in old.schema.names or old.schema.field(field.name).type == field.type:
        return True
    try:
        old.column(field.name).filter(pa.array(stays)).cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _column(table: pa.Table, field: pa.Field, start: int, stays: npt.NDArray[np.bool_]) -> pa.Array:
    """Return old values in the type of a field, null where one of another type is replaced."""
    if field.name not in table.schema.names:
        return pa.nulls(len(stays), field.type)
    values = pa.array(table.column(field.name).slice(start, len(stays)).combine_chunks())
    if values.type == field.type:
        return values
    return to_stored(pc.if_else(pa.array(stays), values, pa.scalar(None, values.type)), field.type)


def _updated(
    values: pa.Array, updates: pa.Table, field: pa.Field, places: npt.NDArray[np.int64]
) -> pa.Array:
    """Return old values followed by new ones, taken by their places in that sequence."""
    if field.name not in updates.schema.names:
        return values
    chunks = [to_stored(chunk, field.type) for chunk in updates.column(field.name).chunks]
    return pa.concat_arrays([values, *chunks]).take(pa.array(places))
