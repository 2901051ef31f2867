"""Parquet files of other writers: INT96 timestamps of any year are what they are."""

from __future__ import annotations

import io
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from pool3.storage.parquet_reader import open_parquet


@given(st.lists(st.none() | st.datetimes()))
def test_int96_times_are_read_back(times: list[datetime | None]) -> None:
    data = io.BytesIO()
    column = pa.array(times, pa.timestamp("us"))
    table = pa.table({"at": column, "inside": pa.StructArray.from_arrays([column], ["at"])})
    pq.write_table(table, data, use_deprecated_int96_timestamps=True)
    assert open_parquet(data).read().equals(table)
