"""Opens Parquet files so that no time is another one, or is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

_SPARK = b"org.apache.spark.version"
_LEGACY = (b"org.apache.spark.legacyINT96", b"org.apache.spark.legacyDateTime")
_GREGORIAN = date(1582, 10, 15)
_MOST_SECONDS = (2**63 - 1) // 1_000_000 - 1


class MisreadTimes(pa.ArrowInvalid):  # type: ignore[misc]
    """Dates or timestamps that Arrow reads as other ones."""


class ParquetInput(pq.ParquetFile):  # type: ignore[misc]
    """What `open_parquet` returns, with the same parameters."""

    def __init__(self, source: BinaryIO, **options: Any) -> None:
        super().__init__(source, coerce_int96_timestamp_unit="us", **options)
        self._source, self._options = source, options

    def int96_seconds(self, columns: Sequence[str] | None, **options: Any) -> Iterator[Any]:
        """Return batches of the INT96 timestamps of some columns in seconds, which fit 64 bits."""
        paths = [path for path in self._int96_paths() if columns is None or _is_in(path, columns)]
        if not paths:
            return iter(())
        file = pq.ParquetFile(
            self._source,
            metadata=self.metadata,
            coerce_int96_timestamp_unit="s",
            **self._options,
        )
        return cast(Iterator[Any], file.iter_batches(columns=paths, **options))

    def _int96_paths(self) -> Iterator[str]:
        for position in range(len(self.schema)):
            column = self.schema.column(position)
            if column.physical_type == "INT96":
                yield column.path


def _is_in(path: str, columns: Sequence[str]) -> bool:
    return any(f"{path}.".startswith(f"{column}.") for column in columns)


def open_parquet(source: BinaryIO, **options: Any) -> ParquetInput:
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
    return ParquetInput(source, **options)


def iter_batches(
    file: ParquetInput, columns: list[str] | None = None, **options: Any
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file that `open_parquet` returned.

    Parameters
    ----------
    columns
        Columns to read, None for all.
    options
        More options of `pyarrow.parquet.ParquetFile.iter_batches`.

    Raises
    ------
    MisreadTimes
        Spark wrote dates before 15 October 1582 in the Julian calendar, as its versions before 3
        do, where Arrow reads other days. Or an INT96 timestamp does not fit 64 bits of
        microseconds, or is before 4713 BC, where Arrow reads its day as a number without a sign.
    """
    is_legacy = _has_julian_days(file.metadata.metadata or {})
    seconds = file.int96_seconds(columns, **options)
    for batch in file.iter_batches(columns=columns, **options):
        _require_microseconds(next(seconds, None))
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
                raise MisreadTimes(
                    f"column {name} has a day before {_GREGORIAN} in the Julian calendar of an "
                    "older Spark; write it with Spark 3 or newer"
                )


def _require_microseconds(seconds: pa.RecordBatch | None) -> None:
    """Raise `MisreadTimes` for timestamps that are other ones in microseconds."""
    if seconds is None:
        return
    for name, column in zip(seconds.schema.names, seconds.columns, strict=True):
        for times in _times(column):
            farthest = pc.max(pc.abs(times.cast(pa.int64()))).as_py()
            if farthest is not None and farthest > _MOST_SECONDS:
                raise MisreadTimes(
                    f"column {name} has an INT96 timestamp before 4713 BC or after the year "
                    "294247; write it as a timestamp of 64 bits, or as null"
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
