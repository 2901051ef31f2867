"""The columns of a table of inputs: which ones say where a picture is, and which are carried."""

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
    """What a table of inputs has.

    `carried` holds every column under the type that the feature table carries; `roles` names the
    columns of ``uri``, ``id``, ``content``, ``size``, ``etag`` and ``modified``; `meta` holds all
    others as one struct, None when there are none.
    """

    carried: pa.Schema
    roles: Mapping[str, str]
    meta: pa.StructType | None


def table_columns(schema: pa.Schema, options: InputOptions, source: str) -> TableColumns:
    """Return the columns of a table with this schema.

    Parameters
    ----------
    schema
        As the input has it.
    source
        What the table is called, for errors.

    Raises
    ------
    UsageError
        A named column is missing or holds something else, or a type cannot be carried.
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
        kind, (holds, what) = struct.field(column).type, _EXPECTED[role]
        if not holds(kind):
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
