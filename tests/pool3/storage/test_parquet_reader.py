"""Parquet files of other writers: INT96 timestamps of any year are what they are."""

from __future__ import annotations

import io
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.storage.parquet_reader import JulianDays, iter_batches, open_parquet


@given(st.lists(st.none() | st.datetimes()))
def test_int96_times_are_read_back(times: list[datetime | None]) -> None:
    data = io.BytesIO()
    column = pa.array(times, pa.timestamp("us"))
    table = pa.table({"at": column, "inside": pa.StructArray.from_arrays([column], ["at"])})
    pq.write_table(table, data, use_deprecated_int96_timestamps=True)
    assert open_parquet(data).read().equals(table)


OLD, NEW = [date(1582, 10, 14), None], [date(1582, 10, 15), None]
DAYS = pa.array(OLD, pa.date32())
NESTED = {
    "date": DAYS,
    "timestamp": DAYS.cast(pa.timestamp("us")),
    "zoned": DAYS.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
    "struct": pa.StructArray.from_arrays([DAYS], ["at"]),
    "list": pa.ListArray.from_arrays([0, 1, 2], DAYS),
    "map": pa.MapArray.from_arrays([0, 1, 2], pa.array(["a", "b"]), DAYS),
}


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize(
    ("key", "value", "is_julian"),
    [
        ("org.apache.spark.version", "2.4.8", True),
        ("org.apache.spark.version", "3.5.1", False),
        ("org.apache.spark.legacyDateTime", "", True),
        ("org.apache.spark.legacyINT96", "", True),
        ("writer", "2.0", False),
    ],
)
def test_days_of_the_julian_calendar_are_refused(
    name: str, key: str, value: str, is_julian: bool
) -> None:
    data = io.BytesIO()
    table = pa.table({name: NESTED[name]})
    pq.write_table(table.replace_schema_metadata({key: value}), data)
    if is_julian:
        with pytest.raises(JulianDays, match=f"column {name} has a day before 1582-10-15"):
            list(iter_batches(open_parquet(data)))
    else:
        assert sum(batch.num_rows for batch in iter_batches(open_parquet(data))) == 2


def test_newer_days_of_an_older_spark_are_read() -> None:
    data = io.BytesIO()
    table = pa.table({"at": pa.array(NEW, pa.date32()), "n": [1, 2]})
    pq.write_table(table.replace_schema_metadata({"org.apache.spark.version": "2.4.8"}), data)
    assert pa.Table.from_batches(iter_batches(open_parquet(data))).to_pydict() == {
        "at": NEW, "n": [1, 2]
    }  # fmt: skip
