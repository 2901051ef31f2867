"""The columns of a feature table that an index stores as metadata."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from pool3.features.table import FeatureTable

#: Columns of our own table that an index stores, besides the plain ones in `meta`.
_OWN = ("uri", "width", "height", "format", "content_sha256", "thumbnail")
_META = "meta"
#: Never metadata.
_KEYS = ("image_id", "features")

_PLAIN = (
    pa.types.is_string,
    pa.types.is_signed_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_boolean,
    pa.types.is_date32,
)


def carried_schema(table: FeatureTable) -> pa.Schema:
    """Return the columns that an index stores as metadata.

    For our own table these are the columns that describe the picture, and ``meta.NAME`` for each
    plain column of the inputs; for a foreign table every column of a plain type. Nested columns are
    left out.
    """
    if table.foreign:
        return plain_columns(table.schema())
    schema = table.log_schema()
    own = [_narrow(schema.field(name)) for name in _OWN if name in schema.names]
    inner = schema.field(_META).type if _META in schema.names else None
    if inner is None or not pa.types.is_struct(inner):
        return pa.schema(own)
    meta = [pa.field(f"{_META}.{field.name}", field.type) for field in plain_columns(inner)]
    return pa.schema([*own, *meta])


def plain_columns(fields: Iterable[pa.Field]) -> pa.Schema:
    """Return the fields of plain types, without keys."""
    narrow = [_narrow(field) for field in fields if field.name not in _KEYS]
    return pa.schema([field for field in narrow if any(fits(field.type) for fits in _PLAIN)])


def _narrow(field: pa.Field) -> pa.Field:
    kinds = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    return pa.field(field.name, kinds.get(field.type, field.type))


def columns_to_read(carried: pa.Schema, *, foreign: bool) -> list[str]:
    """Return the columns of the files to read for some carried columns."""
    names = carried.names if foreign else [_top(name) for name in carried.names]
    return list(dict.fromkeys(names))


def _top(name: str) -> str:
    return _META if name.startswith(f"{_META}.") else name


def carried_rows(batch: pa.RecordBatch, carried: pa.Schema) -> pa.RecordBatch:
    """Return the carried columns of rows of a file; a column that the file lacks is null."""
    arrays = [_column(batch, field) for field in carried]
    return pa.RecordBatch.from_arrays(arrays, schema=carried)


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name in batch.schema.names:
        return batch.column(field.name).cast(field.type)
    top, _, inner = field.name.partition(".")
    if top == _META and _META in batch.schema.names:
        meta = batch.column(_META)
        if meta.type.get_field_index(inner) >= 0:
            return pc.struct_field(meta, inner).cast(field.type)
    return pa.nulls(batch.num_rows, field.type)


def numbered_columns(carried: pa.Schema) -> pa.Schema:
    """Return carried columns under names without dots, which Spark would resolve as structs."""
    return pa.schema([pa.field(f"_c{at}", field.type) for at, field in enumerate(carried)])
