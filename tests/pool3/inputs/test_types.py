"""Carried values are unchanged; a type that cannot be carried is an error with its column."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.inputs.types import carried_struct, carried_type, cast

NESTED = {"tags": ["a", None], "at": [{"x": 1, "y": None}], "by": [("k", 7)]}


POINT = pa.struct([("x", pa.uint32()), ("y", pa.int8())])
POINT_64 = pa.struct([("x", pa.uint64()), ("y", pa.string())])


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct(
            [
                ("tags", pa.list_(pa.string())),
                ("at", pa.list_(POINT)),
                ("by", pa.map_(pa.string(), pa.uint16())),
            ]
        ),
        pa.struct(
            [
                ("tags", pa.large_list(pa.large_string())),
                ("at", pa.large_list(POINT_64)),
                ("by", pa.map_(pa.large_string(), pa.uint8())),
            ]
        ),
    ],
)
def test_nested_values_arrive(kind: pa.DataType) -> None:
    values = [NESTED, None]
    carried = carried_type(kind, "c")
    assert cast(pa.array(values, kind), carried).to_pylist() == values
    assert carried_type(carried, "c") == carried


@given(st.lists(st.integers(0, 2**64 - 1) | st.none()))
def test_unsigned_numbers_keep_their_value(values: list[int | None]) -> None:
    array = pa.array(values, pa.uint64())
    assert cast(array, carried_type(array.type, "c")).to_pylist() == values


def test_dictionaries_are_decoded_and_nanoseconds_cut() -> None:
    words = pa.array(["x", None, "x"]).dictionary_encode()
    assert cast(words, carried_type(words.type, "c")).to_pylist() == ["x", None, "x"]
    times = pa.array([1_999], pa.timestamp("ns", "Europe/Berlin"))
    carried = carried_type(times.type, "c")
    assert carried == pa.timestamp("us", "UTC")
    assert cast(times, carried).cast(pa.int64()).to_pylist() == [1]


@pytest.mark.parametrize(
    "kind",
    [
        pa.null(), pa.float16(), pa.duration("s"), pa.time64("us"), pa.list_(pa.null()),
        pa.struct([]), pa.dense_union([pa.field("a", pa.int8())]), pa.month_day_nano_interval(),
        pa.uuid(), pa.decimal256(50, 2), pa.list_view(pa.string()),
        pa.struct([("deep", pa.list_(pa.float16()))]),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_named(kind: pa.DataType) -> None:
    with pytest.raises(UsageError, match=r"column shot\S*, found"):
        carried_type(kind, "shot")


def test_names_that_differ_only_in_case_are_an_error() -> None:
    with pytest.raises(UsageError, match="differ in more than case"):
        carried_struct([pa.field("Label", pa.string()), pa.field("label", pa.string())])
