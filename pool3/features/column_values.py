"""The values of an index's columns of metadata: read from files, and passed through Spark.

Deliberately not here: which columns an index stores (`pool3.features.columns`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from pool3.features.column_types import from_spark, spark_type, to_spark, to_stored
from pool3.features.columns import META, has_fields


def columns_to_read(carried: pa.Schema, *, foreign: bool) -> list[str]:
    """Return the columns of the files to read for some carried columns."""
    if foreign:
        # A name with dots may be that of a column, or of a field of a struct.
        names = [prefix for name in carried.names for prefix in _prefixes(name)]
    else:
        names = [META if name.startswith(f"{META}.") else name for name in carried.names]
    return list(dict.fromkeys(names))


def _prefixes(name: str) -> list[str]:
    words = name.split(".")
    return [".".join(words[:count]) for count in range(len(words), 0, -1)]


def carried_rows(batch: pa.RecordBatch, carried: pa.Schema) -> pa.RecordBatch:
    """Return the carried columns of rows of a file; a column that the file lacks is null."""
    arrays = [_column(batch, item) for item in carried]
    return pa.RecordBatch.from_arrays(arrays, schema=carried)


def _column(batch: pa.RecordBatch, item: pa.Field) -> pa.Array:
    values = _values(batch.schema, batch.column, item.name)
    if values is None or pa.types.is_null(values.type):
        return pa.nulls(batch.num_rows, item.type)
    return to_stored(values, item.type)


def _values(
    fields: Iterable[pa.Field], child: Callable[[int], pa.Array], name: str
) -> pa.Array | None:
    """Return a column, or a field below one; None where there is none."""
    for at, item in enumerate(fields):
        if item.name == name and not has_fields(item.type):
            return child(at)
        if name.startswith(f"{item.name}.") and has_fields(item.type):
            outer = child(at)
            inner = _values(outer.type, _child(outer), name[len(item.name) + 1 :])
            if inner is not None:
                return inner
    return None


def _child(outer: pa.StructArray) -> Callable[[int], pa.Array]:
    return lambda at: pc.struct_field(outer, [at])


def numbered_columns(carried: pa.Schema) -> pa.Schema:
    """Return carried columns as they pass through Spark.

    Their names have no dots, which Spark would resolve as structs, and their types are those of
    `pool3.features.column_types.spark_type`.
    """
    return pa.schema([(f"_c{at}", spark_type(item.type)) for at, item in enumerate(carried)])


def to_numbered(rows: pa.RecordBatch) -> list[pa.Array]:
    """Return the values of `numbered_columns` for rows of carried columns."""
    return [to_spark(values) for values in rows.columns]


def from_numbered(batch: pa.RecordBatch, carried: pa.Schema) -> pa.RecordBatch:
    """Return rows of carried columns from a batch that has `numbered_columns`."""
    names = numbered_columns(carried).names
    arrays = [
        from_spark(batch.column(name), item.type) for name, item in zip(names, carried, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=carried)
