"""The columns of a table that an index stores as metadata, and why it leaves out the others.

A struct's fields are columns of their own, ``struct.field``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa

from pool3.errors import UsageError
from pool3.features.column_types import (
    common_type,
    is_bytes,
    is_cast,
    stored_type,
    why_not_stored,
)
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile

#: Columns of our own table that an index stores, besides those in `meta`.
_OWN = ("uri", "width", "height", "format", "content_sha256", "thumbnail")
META = "meta"
#: Never metadata.
_KEYS = ("image_id", "features")
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})")
_READ_AT_ONCE = 16


@dataclass(frozen=True)
class ColumnChoice:
    """Which columns a person wants; a name may omit the prefix ``meta``.

    Attributes
    ----------
    only
        The only ones that are carried; all that can be when None.
    leave_out
        Those that are not.
    """

    only: tuple[str, ...] | None = None
    leave_out: tuple[str, ...] = ()

    def why_not(self, name: str) -> str | None:
        """Return which option leaves a column out, None where none does."""
        if _is_among(name, self.leave_out):
            return "--leave-out names it"
        if self.only is not None and not _is_among(name, self.only):
            return "--columns does not name it"
        return None

    def names(self, name: str) -> bool:
        """Return whether a column is among those that are named to be carried."""
        return _is_among(name, self.only or ())


@dataclass(frozen=True)
class CarriedColumns:
    """The columns of a table that an index stores, and what becomes of the others.

    Attributes
    ----------
    schema
        The columns, in the types of the index.
    cast
        For each that has another type in the table: from what to what.
    left_out
        For each of the others: why.
    """

    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    cast: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def over(self, other: CarriedColumns) -> CarriedColumns:
        """Return the columns of both; these replace those of the other that have their names."""
        mine = set(self.schema.names)
        fields = [item for item in other.schema if item.name not in mine]
        cast = {name: text for name, text in other.cast.items() if name not in mine}
        carried = mine.union(other.schema.names)
        left_out = {**other.left_out, **self.left_out}
        return CarriedColumns(
            schema=pa.schema([*fields, *self.schema]),
            cast={**cast, **self.cast},
            left_out={name: why for name, why in left_out.items() if name not in carried},
        )

    def report(self) -> dict[str, object]:
        """Return the columns by what becomes of them, ready for JSON."""
        return {
            "carried": self.schema.names,
            "cast": dict(self.cast),
            "left_out": dict(self.left_out),
        }


def carried_columns(table: FeatureTable, choice: ColumnChoice | None = None) -> CarriedColumns:
    """Return the columns of a feature table that an index stores as metadata.

    For our own table these are the columns that describe the picture, and ``meta.NAME`` for each
    column of the inputs; for a foreign table, the columns of all its files.
    """
    if table.foreign:
        return metadata_columns(table, choice)
    fields = [item for item in table.log_schema() if item.name in (*_OWN, META)]
    sources = _Sources([(table.uri, pa.schema(fields))])
    return sources.carried(choice or ColumnChoice(), with_bytes=_OWN)


def metadata_columns(table: FeatureTable, choice: ColumnChoice | None = None) -> CarriedColumns:
    """Return the columns of a table of metadata that an index stores."""
    return _Sources(_schemas(table)).carried(choice or ColumnChoice())


def require_named(choice: ColumnChoice, tables: Sequence[CarriedColumns]) -> None:
    """Raise `UsageError` where an option names no column, or ``--columns`` one without a place."""
    names = [name for table in tables for name in (*table.schema.names, *table.left_out)]
    carried = {name for table in tables for name in table.schema.names}
    reasons = {name: why for table in tables for name, why in table.left_out.items()}
    for option, named in (("--columns", choice.only or ()), ("--leave-out", choice.leave_out)):
        for name in named:
            meant = [full for full in names if _is_among(full, [name])]
            if not meant:
                raise UsageError(
                    f"expected names of columns in {option}, found {name!r}; the columns are "
                    f"{', '.join(dict.fromkeys(names)) or 'none'}"
                )
            if option == "--columns" and carried.isdisjoint(meant):
                raise UsageError(
                    f"expected columns in --columns that an index can store, found {name!r}: "
                    f"{reasons[meant[0]]}; leave it out"
                )


def _is_among(name: str, named: Iterable[str]) -> bool:
    return any(name in (given, f"{META}.{given}") for given in named)


def _schemas(table: FeatureTable) -> Iterator[tuple[str, pa.Schema]]:
    """Yield the schemas of a table, each with the file or table that has it."""
    if table.version is not None:
        yield table.uri, table.log_schema()
        return
    names: set[str] = set()
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        for file, schema in zip(table.files, pool.map(table.file_schema, table.files), strict=True):
            names.update(schema.names)
            yield file.path, schema
    kinds = _partition_types(table.files)
    yield "the paths of files", pa.schema([item for item in kinds if item.name not in names])


def _partition_types(files: Iterable[TableFile]) -> pa.Schema:
    values: dict[str, set[str]] = {}
    for file in files:
        for name, text in file.partition:
            values.setdefault(name, set()).update([] if text is None else [text])
    return pa.schema([(name, _text_type(texts)) for name, texts in values.items()])


def _text_type(texts: Iterable[str]) -> pa.DataType:
    """Return int64 for whole numbers that are written as such; leading zeros make text."""
    return pa.int64() if all(map(_WHOLE_NUMBER.fullmatch, texts)) else pa.string()


class _Sources:
    """The columns of files by name, each with its types and the first file that has the type."""

    def __init__(self, schemas: Iterable[tuple[str, pa.Schema]]) -> None:
        self._kinds: dict[str, dict[pa.DataType, str]] = {}
        self._repeated: dict[str, str] = {}
        for where, schema in schemas:
            columns = [column for column in _flat(schema) if column[0] not in _KEYS]
            for name, kind in columns:
                self._kinds.setdefault(name, {}).setdefault(kind, where)
            for name, times in Counter(name for name, _ in columns).items():
                if times > 1:
                    self._repeated[name] = f"{times} columns have this name in {where}"

    def carried(self, choice: ColumnChoice, with_bytes: Sequence[str] = ()) -> CarriedColumns:
        fields, cast, left_out = [], {}, {}
        for name, kinds in self._kinds.items():
            kind = choice.why_not(name) or self._repeated.get(name)
            kind = kind or _stored(kinds, name in with_bytes or choice.names(name))
            if isinstance(kind, str):
                left_out[name] = kind
                continue
            fields.append(pa.field(name, kind))
            if any(is_cast(source, kind) for source in kinds):
                cast[name] = f"{', '.join(map(str, kinds))} as {kind}"
        return CarriedColumns(pa.schema(fields), cast, left_out)


def _flat(fields: Iterable[pa.Field], prefix: str = "") -> Iterator[tuple[str, pa.DataType]]:
    for item in fields:
        if has_fields(item.type):
            yield from _flat(item.type, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item.type


def has_fields(kind: pa.DataType) -> bool:
    """Return whether columns of a type are taken apart into their fields."""
    return bool(pa.types.is_struct(kind) and kind.num_fields)


def _stored(kinds: Mapping[pa.DataType, str], with_bytes: bool) -> pa.DataType | str:
    """Return the type of the index for a column that has some types; or why it has none."""
    sources = [kind for kind in kinds if not pa.types.is_null(kind)]
    if not sources:
        return why_not_stored(pa.null())
    for kind in sources:
        if stored_type(kind) is None:
            return why_not_stored(kind)
        if is_bytes(kind) and not with_bytes:
            return "bytes are carried only where --columns names them"
    together = reduce(_joined, map(stored_type, sources))
    if together is not None:
        return together
    places = ", ".join(f"{kind} in {kinds[kind]}" for kind in sources)
    return f"its types have no common one: {places}"


def _joined(first: pa.DataType | None, second: pa.DataType | None) -> pa.DataType | None:
    return None if first is None or second is None else common_type(first, second)
