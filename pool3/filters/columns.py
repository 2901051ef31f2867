"""Resolves the name of a column of an index's rows.

A column has its own name, a field of a struct the name ``struct.field``. The prefix ``meta`` may be
omitted unless another column has the name.
"""

from __future__ import annotations

from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError

Values: TypeAlias = pa.ChunkedArray

_PREFIX = "meta"


def column_path(declared: pa.Schema, name: str, *, argument: str) -> tuple[str, ...]:
    """Resolve a column name.

    Parameters
    ----------
    declared
        All columns.
    name
        The name that the caller gave.
    argument
        The argument with the name, for the error.

    Returns
    -------
    tuple of str
        The column's own name, then those of the fields below it.

    Raises
    ------
    UsageError
        There is no such column.

    Examples
    --------
    >>> declared = pa.schema([("meta.label", pa.string()), ("width", pa.int32())])
    >>> column_path(declared, "label", argument="where")
    ('meta.label',)
    """
    if isinstance(name, str):
        path = _path(declared, name) or _path(declared, f"{_PREFIX}.{name}")
        if path is not None:
            return path
    raise UsageError(
        f"{argument} names the column {name!r}, which is not one of this index: "
        f"{', '.join(_names(declared))}"
    )


def column_of(rows: pa.Table, declared: pa.Schema, name: str, *, argument: str) -> Values:
    """Return the values of a column.

    Parameters
    ----------
    rows
        n rows; a column of `declared` that they lack is null.
    declared, name, argument
        As in `column_path`.

    Returns
    -------
    pyarrow.ChunkedArray
        n values of the declared type.
    """
    first, *below = column_path(declared, name, argument=argument)
    kind = declared.field(first).type
    if first in rows.schema.names:
        values = rows.column(first)
        # Not safe: the declared type is that of all shards, and may round what one has.
        values = values if values.type == kind else values.cast(kind, safe=False)
    else:
        values = pa.chunked_array([pa.nulls(len(rows), kind)])
    return pc.struct_field(values, below) if below else values


def _path(fields: pa.Schema | pa.StructType, name: str) -> tuple[str, ...] | None:
    kinds = {field.name: field.type for field in fields}
    if name in kinds:
        return (name,)
    for outer, kind in kinds.items():
        if pa.types.is_struct(kind) and name.startswith(f"{outer}."):
            inner = _path(kind, name[len(outer) + 1 :])
            if inner is not None:
                return (outer, *inner)
    return None


def _names(fields: pa.Schema | pa.StructType, prefix: str = "") -> list[str]:
    names = []
    for field in fields:
        if pa.types.is_struct(field.type):
            names += _names(field.type, f"{prefix}{field.name}.")
        else:
            names.append(prefix + field.name)
    return names
