"""Types of metadata columns: as which type an index stores a column, and the casts to that type.

Deliberately not here: which columns of a table there are (`pool3.features.columns`).
"""

from __future__ import annotations

import uuid

import pyarrow as pa
import pyarrow.compute as pc

_INT64 = pa.int64()
_SAME_BITS = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: _INT64}
#: Other encodings of the same values; a change between them is no cast worth telling.
_ENCODINGS = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}


def stored_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type under which an index stores a column; None if it cannot.

    Examples
    --------
    >>> stored_type(pa.dictionary(pa.int32(), pa.large_string()))
    DataType(string)
    >>> stored_type(pa.list_(pa.int8())) is None
    True
    """
    types = pa.types
    kind = _value_type(kind)
    if types.is_timestamp(kind) and kind.tz is not None and not _is_zone(kind.tz):
        return pa.timestamp(kind.unit, "UTC")
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_date64(kind):
        return pa.date32()
    if types.is_decimal(kind) and kind.bit_width < 128:
        return pa.decimal128(kind.precision, kind.scale)
    return kind if _is_stored(kind) else None


def _value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, without a dictionary, an extension or another encoding."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _value_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.string() if _is_uuid(kind) else _value_type(kind.storage_type)
    return _ENCODINGS.get(kind, kind)


def _is_stored(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (
        types.is_string, types.is_binary, types.is_integer, types.is_floating, types.is_boolean,
        types.is_date32, types.is_timestamp, types.is_time, types.is_duration, types.is_decimal,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _is_uuid(kind: pa.DataType) -> bool:
    return bool(getattr(kind, "extension_name", None) == "arrow.uuid")


def _is_zone(name: str) -> bool:
    """Return whether Python knows a time zone, so that values can be shown in it."""
    try:
        pa.scalar(0, pa.timestamp("s", name)).as_py()
    except (ValueError, KeyError, pa.ArrowException, OSError):
        return False
    return True


def is_cast(kind: pa.DataType, stored: pa.DataType) -> bool:
    """Return whether storing a column changes more than its encoding."""
    return bool(_ENCODINGS.get(kind, kind) != stored)


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether the values of a type are bytes."""
    return bool(stored_type(kind) == pa.binary())


def why_not_stored(kind: pa.DataType) -> str:
    """Return why a column of a type is not stored, for the report."""
    if pa.types.is_null(kind):
        return "all values are null, of no type"
    if isinstance(kind, pa.BaseExtensionType) and "tensor" in kind.extension_name:
        return f"tensors are not carried ({kind.extension_name})"
    if pa.types.is_nested(kind):
        return f"nested values are not carried ({kind})"
    return f"the type {kind} is not carried"


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Return a type that takes the values of two stored types; None if no number or text does.

    Whole numbers beside floating-point numbers become ``double``, which rounds beyond 2**53, and
    times of different units microseconds.

    Examples
    --------
    >>> common_type(pa.int64(), pa.uint64())
    Decimal128Type(decimal128(20, 0))
    >>> common_type(pa.int64(), pa.string()) is None
    True
    """
    types = pa.types
    if first == second:
        return first
    if types.is_binary(first) != types.is_binary(second):
        return None
    if types.is_timestamp(first) and types.is_timestamp(second):
        return _common_timestamp(first, second)
    return _common_number(first, second)


def _common_timestamp(first: pa.TimestampType, second: pa.TimestampType) -> pa.DataType | None:
    if (first.tz is None) != (second.tz is None):
        return None
    unit = first.unit if first.unit == second.unit else "us"
    return pa.timestamp(unit, first.tz if first.tz == second.tz else "UTC")


def _common_number(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_duration(first) and types.is_duration(second):
        return pa.duration("us")
    if pa.uint64() in (first, second) and any(map(types.is_signed_integer, (first, second))):
        return pa.decimal128(20, 0)
    schemas = [pa.schema([("", kind)]) for kind in (first, second)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None


def unify(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return a type for the values of two stored types: text where they share no other."""
    return common_type(first, second) or pa.string()


def to_stored(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast values of a column to the type that `stored_type` and `common_type` gave for it."""
    if isinstance(values, pa.ExtensionArray):
        values = _uuid_texts(values) if _is_uuid(values.type) else values.storage
    if pa.types.is_dictionary(values.type):
        return to_stored(values.dictionary_decode(), kind)
    if pa.types.is_run_end_encoded(values.type):
        return to_stored(pc.run_end_decode(values), kind)
    if pa.types.is_string(kind) and is_bytes(values.type):
        return pa.nulls(len(values), kind)
    # Not safe: whole numbers are rounded to double, and nanoseconds cut to microseconds.
    return values if values.type == kind else values.cast(kind, safe=False)


def id_texts(values: pa.Array) -> pa.Array:
    """Return ids of any type as strings; bytes must be UTF-8."""
    return values.cast(pa.string()) if is_bytes(values.type) else to_stored(values, pa.string())


def _uuid_texts(values: pa.ExtensionArray) -> pa.Array:
    texts = [
        None if raw is None else str(uuid.UUID(bytes=raw)) for raw in values.storage.to_pylist()
    ]
    return pa.array(texts, pa.string())


def spark_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which the values of a stored type pass through Spark, bit for bit.

    Spark has neither unsigned numbers nor times of day, and changes units and zones of timestamps.
    """
    types = pa.types
    if types.is_decimal(kind):
        return pa.binary()
    if types.is_unsigned_integer(kind) or types.is_time(kind):
        return _SAME_BITS[kind.bit_width]
    return _INT64 if types.is_timestamp(kind) or types.is_duration(kind) else kind


def to_spark(values: pa.Array) -> pa.Array:
    """Return values of a stored type under their `spark_type`."""
    kind = values.type
    if pa.types.is_decimal(kind):
        return values.view(pa.binary(kind.byte_width)).cast(pa.binary())
    target = spark_type(kind)
    return values if target == kind else values.view(target)


def from_spark(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return what `to_spark` was given, as values of the stored type `kind`."""
    if pa.types.is_decimal(kind):
        return values.cast(pa.binary()).cast(pa.binary(kind.byte_width)).view(kind)
    return values.cast(spark_type(kind)).view(kind)
