"""The columns of a table of inputs: those that locate a picture, and those carried as ``meta``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import types

from pool3.errors import UsageError
from pool3.inputs.options import InputOptions
from pool3.inputs.types import carried_struct, is_bytes, is_text


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns of a table of inputs.

    Attributes
    ----------
    carried
        Every column, under the type that it has in the feature table.
    roles
        Column names by role: ``uri``, ``id``, ``content``, ``size``, ``etag`` and ``modified``.
    meta
        All other columns as one struct, None when there are none.
    """

    carried: pa.Schema
    roles: Mapping[str, str]
    meta: pa.StructType | None


def table_columns(schema: pa.Schema, options: InputOptions, source: str) -> TableColumns:
    """Assign the columns of a table to roles and to ``meta``.

    Parameters
    ----------
    schema
        Columns as the input has them.
    source
        Name of the table, for errors.

    Raises
    ------
    UsageError
        A named column is missing or has another type, or a type cannot be carried.
    """
    roles = options.columns()
    for role, column in roles.items():
        if column not in schema.names:
            raise UsageError(
                f"expected column {column} (--{role}-column) in {source}, found "
                f"{', '.join(schema.names)}; check the name"
            )
    struct = carried_struct(schema)
    for role, column in roles.items():
        kind, (accepts, what) = struct.field(column).type, _EXPECTED[role]
        if not accepts(kind):
            raise UsageError(
                f"expected {what} in column {column} (--{role}-column) of {source}, found {kind}; "
                "name another column or cast it"
            )
    rest = [field for field in struct if field.name not in set(roles.values())]
    return TableColumns(pa.schema(struct), roles, pa.struct(rest) if rest else None)


def _is_id(kind: pa.DataType) -> bool:
    return bool(is_text(kind) or types.is_integer(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(is_text(kind) or types.is_timestamp(kind) or types.is_date(kind))


_EXPECTED: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "uri": (is_text, "text"),
    "id": (_is_id, "text or whole numbers"),
    "content": (is_bytes, "bytes"),
    "size": (_is_id, "whole numbers"),
    "etag": (is_text, "text"),
    "modified": (_is_time, "times"),
}
