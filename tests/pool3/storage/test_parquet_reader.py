"""Parquet files of other writers: INT96 timestamps of any year are what they are."""

from __future__ import annotations

import io
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.storage.parquet_reader import MisreadTimes, iter_batches, open_parquet


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
        with pytest.raises(MisreadTimes, match=f"column {name} has a day before 1582-10-15"):
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


FITS = (2**63 - 1) // 10**6 - 1
# Arrow reads day 0 of the Julian period as 1970, and days before it without their sign.
JULIAN_DAY_1 = -2_440_587 * 86_400


def int96_table(name: str, seconds: int) -> pa.Table:
    times = pa.array([0, seconds, None], pa.timestamp("s"))
    columns = {
        "plain": times,
        "struct": pa.StructArray.from_arrays([times], ["at"]),
        "list": pa.ListArray.from_arrays([0, 1, 2, 3], times),
        "map": pa.MapArray.from_arrays([0, 1, 2, 3], pa.array(["a", "b", "c"]), times),
    }
    return pa.table({"n": [1, 2, 3], name: columns[name]})


def stored_as_int96(table: pa.Table) -> io.BytesIO:
    data = io.BytesIO()
    pq.write_table(table, data, use_deprecated_int96_timestamps=True)
    return data


@pytest.mark.parametrize("name", ["plain", "struct", "list", "map"])
@pytest.mark.parametrize("seconds", [FITS + 2, 2 * FITS, 10**14, JULIAN_DAY_1 - 86_401, -FITS - 3])
def test_int96_times_that_microseconds_do_not_hold_are_refused(name: str, seconds: int) -> None:
    file = open_parquet(stored_as_int96(int96_table(name, seconds)))
    with pytest.raises(MisreadTimes, match=f"column {name} has an INT96 timestamp before 4713 BC"):
        list(iter_batches(file, batch_size=1))
    assert sum(batch.num_rows for batch in iter_batches(file, columns=["n"])) == 3


@pytest.mark.parametrize("name", ["plain", "struct", "list", "map"])
@pytest.mark.parametrize("seconds", [FITS, JULIAN_DAY_1])
def test_the_farthest_int96_times_are_right(name: str, seconds: int) -> None:
    table = int96_table(name, seconds)
    microseconds = pa.timestamp("us")
    (batch,) = iter_batches(open_parquet(stored_as_int96(table)))
    values = batch.column(1)
    while not pa.types.is_timestamp(values.type):
        values = values.items if pa.types.is_map(values.type) else values.flatten()
        values = values[0] if isinstance(values, list) else values
    assert values.equals(pa.array([0, seconds * 10**6, None], microseconds))
