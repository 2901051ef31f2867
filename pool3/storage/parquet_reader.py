"""Opens Parquet files so that no time is another one, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

_SPARK = b"org.apache.spark.version"
_LEGACY = (b"org.apache.spark.legacyINT96", b"org.apache.spark.legacyDateTime")
_GREGORIAN = date(1582, 10, 15)


class JulianDays(pa.ArrowInvalid):  # type: ignore[misc]
    """Days of the Julian calendar, which Arrow reads as other days."""


def open_parquet(source: BinaryIO, **options: Any) -> pq.ParquetFile:
    """Return a Parquet file whose INT96 timestamps are read as microseconds.

    Spark writes timestamps as INT96 by default. Arrow reads these as nanoseconds in 64 bits unless
    it is told another unit, and then times before 1677 and after 2262 are other times, without an
    error.

    Parameters
    ----------
    source
        The file, seekable.
    options
        More options of `pyarrow.parquet.ParquetFile`.
    """
    return pq.ParquetFile(source, coerce_int96_timestamp_unit="us", **options)


def iter_batches(file: pq.ParquetFile, **options: Any) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file that `open_parquet` returned.

    Parameters
    ----------
    options
        Those of `pyarrow.parquet.ParquetFile.iter_batches`.

    Raises
    ------
    JulianDays
        Spark wrote dates before 15 October 1582 in the Julian calendar, as its versions before 3
        do, where Arrow reads other days.
    """
    is_legacy = _has_julian_days(file.metadata.metadata or {})
    for batch in file.iter_batches(**options):
        if is_legacy:
            _require_gregorian(batch)
        yield batch


def _has_julian_days(metadata: dict[bytes, bytes]) -> bool:
    version = metadata.get(_SPARK, b"")
    return version[:2] in (b"1.", b"2.") or any(key in metadata for key in _LEGACY)


def _require_gregorian(batch: pa.RecordBatch) -> None:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for times in _times(column):
            first = pc.min(times)
            if first.is_valid and pc.less(first, pa.scalar(_GREGORIAN).cast(times.type)).as_py():
                raise JulianDays(
                    f"column {name} has a day before {_GREGORIAN} in the Julian calendar of an "
                    "older Spark; write it with Spark 3 or newer"
                )


def _times(values: pa.Array) -> Iterator[pa.Array]:
    """Yield the dates and times of a column, nested ones too."""
    kind = values.type
    if types.is_date(kind) or types.is_timestamp(kind):
        yield values
    elif types.is_struct(kind):
        for child in values.flatten():
            yield from _times(child)
    elif types.is_map(kind):
        yield from _times(values.keys)
        yield from _times(values.items)
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        yield from _times(values.flatten())
