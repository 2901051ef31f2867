"""The types that a column of an input may have, and their types in the feature table.

Delta tables have no unsigned numbers, no dictionaries and no times finer than a microsecond:
unsigned numbers are widened, dictionaries are decoded, nanoseconds are truncated. A type without a
lossless equivalent is an error that names the column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from pool3.errors import UsageError

_UNCHANGED = frozenset(
    {pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64()}
)
_WIDENED = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
}
_MOST_DIGITS = 38


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column has text."""
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a column has bytes."""
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


_BY_TEST = ((is_text, pa.string()), (is_bytes, pa.binary()), (types.is_date, pa.date32()))


def carried_type(kind: pa.DataType, column: str) -> pa.DataType:
    """Return the type of a carried column in the feature table, nested types included.

    Parameters
    ----------
    kind
        Type in the input.
    column
        Name of the column, for the error.

    Raises
    ------
    UsageError
        The table cannot carry the type.

    Examples
    --------
    >>> carried_type(pa.uint16(), "year")
    DataType(int32)
    """
    if types.is_dictionary(kind):
        return carried_type(kind.value_type, column)
    carried = _plain(kind) or _nested(kind, column)
    if carried is None:
        raise UsageError(
            f"expected a type that a Delta table can carry in column {column}, found {kind}; cast "
            "or drop the column"
        )
    return carried


def _plain(kind: pa.DataType) -> pa.DataType | None:
    if types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if types.is_decimal(kind):
        fits = kind.precision <= _MOST_DIGITS and kind.scale >= 0
        return pa.decimal128(kind.precision, kind.scale) if fits else None
    for is_kind, carried in _BY_TEST:
        if is_kind(kind):
            return carried
    return kind if kind in _UNCHANGED else _WIDENED.get(kind)


def _nested(kind: pa.DataType, column: str) -> pa.DataType | None:
    if types.is_struct(kind) and kind.num_fields:
        return carried_struct(kind, column)
    if types.is_map(kind):
        return pa.map_(
            carried_type(kind.key_type, f"{column}.key"),
            carried_type(kind.item_type, f"{column}.value"),
        )
    # Not list views: pyarrow 26 casts them to empty lists.
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        element = carried_type(kind.value_type, f"{column}.element")
        return pa.list_(pa.field("element", element))
    return None


def carried_struct(fields: Iterable[pa.Field], column: str | None = None) -> pa.StructType:
    """Return fields under their carried types as one struct.

    Parameters
    ----------
    column
        Name of the struct itself, for errors; None for the columns of a table.

    Raises
    ------
    UsageError
        A type cannot be carried, or two names differ only in case, which a Delta table does not
        distinguish.
    """
    fields = list(fields)
    prefix = "" if column is None else f"{column}."
    counts = Counter(field.name.lower() for field in fields)
    for name, count in counts.items():
        if count > 1:
            raise UsageError(
                f"expected names of columns that differ in more than case, found {count} columns "
                f"{prefix}{name}; rename one of them"
            )
    return pa.struct(
        [
            pa.field(field.name, carried_type(field.type, f"{prefix}{field.name}"))
            for field in fields
        ]
    )


def cast(array: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return an array under its carried type; times are truncated to microseconds."""
    if array.type == kind:
        return array
    options = pc.CastOptions(kind, allow_time_truncate=True)
    return pc.cast(array, options=options)
