"""Opens Parquet files so that no time overflows."""

from __future__ import annotations

from typing import Any, BinaryIO

import pyarrow.parquet as pq


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
