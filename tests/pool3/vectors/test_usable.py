from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.vectors.float16 import as_float16, as_float32
from pool3.vectors.stored import rounding_error, storable, stored_rows
from pool3.vectors.usable import (
    NOT_FINITE,
    NULL_VECTOR,
    REASONS,
    WRONG_LENGTH,
    ZERO_VECTOR,
    check_vectors,
    common_length,
)

NUMBERS = st.sampled_from([0.0, 1.0, -2.5, 1e300, float("nan"), float("inf"), None])
VECTORS = st.one_of(st.none(), st.lists(NUMBERS, min_size=1, max_size=3))


def expected_reason(vector, metric):
    if vector is None:
        return NULL_VECTOR
    if len(vector) != 2:
        return WRONG_LENGTH
    if any(x is None or not abs(x) < 1e38 for x in vector):
        return NOT_FINITE
    return ZERO_VECTOR if metric == "angular" and vector == [0.0, 0.0] else None


@given(st.lists(VECTORS, max_size=12), st.sampled_from(["angular", "euclidean", "dot"]))
def test_every_row_is_usable_or_has_one_reason(column, metric):
    checked = check_vectors(pa.array(column, pa.list_(pa.float64())), dimension=2, metric=metric)
    reasons = {row: why for why, rows in checked.rejected.items() for row in rows.tolist()}
    assert set(checked.rejected) <= set(REASONS)
    assert sorted([*reasons, *checked.rows.tolist()]) == list(range(len(column)))
    assert [reasons.get(row) for row in range(len(column))] == [
        expected_reason(vector, metric) for vector in column
    ]
    assert checked.vectors.tolist() == [column[row] for row in checked.rows]
    assert checked.vectors.dtype == np.float32


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.int32()),
    ],
)
def test_list_types_of_arrow(kind):
    whole = pa.array([[9, 9], [1, 2], None, [3, 4]], kind)
    for column in (whole[1:], pa.chunked_array([whole[1:2], whole[2:]])):
        checked = check_vectors(column, dimension=2, metric="angular")
        assert checked.vectors.tolist() == [[1, 2], [3, 4]]
        assert checked.rows.tolist() == [0, 2]
        assert checked.rejected[NULL_VECTOR].tolist() == [1]


@pytest.mark.parametrize("column", [pa.array([1.0]), pa.array([["a"]]), pa.array([[True]])])
def test_other_columns_are_refused(column):
    with pytest.raises(UsageError, match="lists of numbers; found the type"):
        check_vectors(column, dimension=1, metric="dot")


def test_common_length():
    assert common_length(pa.array([[1.0], [1.0, 2.0], [3.0, 4.0], None])) == 2
    assert common_length(pa.array([[1.0], [1.0, 2.0]])) == 2
    assert common_length(pa.array([None], pa.list_(pa.float32()))) is None


@given(st.integers(0, 2**32 - 1), st.integers(-120, 115))
def test_angular_rows_are_stored_without_rounding_and_in_range(seed, exponent):
    rng = np.random.default_rng(seed)
    whole = rng.integers(-1000, 1000, (5, 8))
    whole[:, 0] = 1
    rows = np.ldexp(whole, exponent).astype(np.float32)
    stored = stored_rows(rows, metric="angular", dtype="float16").astype(np.float64)
    assert (np.abs(stored).max(axis=1) < 1).all()
    assert (np.abs(stored).max(axis=1) >= 0.5).all()
    scale = stored[:, 0] / rows.astype(np.float64)[:, 0]
    np.testing.assert_array_equal(stored, rows.astype(np.float64) * scale[:, None])


def test_float16_is_rounded_as_numpy_rounds_it():
    every = np.arange(0x7C00, dtype=np.uint16).view(np.float16)  # all finite ones, from 0 upwards
    ties = ((every[1:].astype(np.float64) + every[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(ties, np.float32(side)) for side in (0, np.inf)]
    beyond = np.array([65519.99, 65520, 7e4, 1e-8, 0, np.inf], dtype=np.float32)
    numbers = np.concatenate([ties, *beside, beyond])
    numbers = np.concatenate([numbers, -numbers])
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16)
    assert as_float16(numbers).view(np.uint16).tolist() == expected.view(np.uint16).tolist()
    assert as_float32(expected).tolist() == expected.astype(np.float32).tolist()


def test_float16_out_of_range_is_refused_and_named():
    rows = np.array([[1.0, 70000.0]], dtype=np.float32)
    with pytest.raises(UsageError, match="70000: build with vectors_dtype float32"):
        stored_rows(rows, metric="euclidean", dtype="float16")
    assert stored_rows(rows, metric="euclidean", dtype="float32").tolist() == rows.tolist()
    assert rounding_error(rows, "euclidean") == np.inf


def test_rounding_error_is_relative_to_unit_rows_under_angular():
    rows = np.array([[1.0, 1 / 3], [3e5, 1e5]], dtype=np.float32)
    error = rounding_error(rows, "angular")
    assert 0 < error < 2 * 2.0**-22
    assert storable(rows, "dot").tolist() == rows.astype(np.float64).tolist()


def test_tensors_of_one_axis_are_vectors():
    kind = pa.fixed_shape_tensor(pa.float32(), (2,))
    lists = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2))
    column = pa.ExtensionArray.from_storage(kind, lists)
    assert common_length(column) == 2
    assert check_vectors(column, dimension=2, metric="dot").vectors.tolist() == [[1, 2], [3, 4]]
    square = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (1, 2)), lists)
    with pytest.raises(UsageError, match="fixed_shape_tensor"):
        check_vectors(square, dimension=2, metric="dot")


def test_a_column_of_nulls_has_no_vectors():
    assert common_length(pa.nulls(3)) is None
    checked = check_vectors(pa.nulls(3), dimension=2, metric="dot")
    assert checked.rejected[NULL_VECTOR].tolist() == [0, 1, 2]
