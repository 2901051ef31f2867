"""Selects the usable vectors of a column: of one length, finite, and not zero under angular."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError

NULL_VECTOR = "null_vector"
WRONG_LENGTH = "wrong_length"
NOT_FINITE = "not_finite"
ZERO_VECTOR = "zero_vector"
REASONS = (NULL_VECTOR, WRONG_LENGTH, NOT_FINITE, ZERO_VECTOR)

_LIST_TYPES = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(frozen=True)
class CheckedVectors:
    """The usable vectors of a batch, and the reasons why others are not usable.

    Attributes
    ----------
    vectors
        float32, (m, d): the usable vectors, in the order of the batch.
    rows
        int64, (m,): position of each in the batch.
    rejected
        Positions in the batch, int64, by reason (one of `REASONS`); only reasons that occur.
    """

    vectors: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    rejected: Mapping[str, npt.NDArray[np.int64]]


def common_length(column: pa.Array | pa.ChunkedArray) -> int | None:
    """Return the most common length of a column's vectors, None without vectors.

    Of several lengths that are equally common, the largest is returned.
    """
    lengths = pc.list_value_length(_list_array(column)).drop_null()
    if not len(lengths):
        return None
    counted = pc.value_counts(lengths).to_pylist()
    return int(max((entry["counts"], entry["values"]) for entry in counted)[1])


def check_vectors(
    column: pa.Array | pa.ChunkedArray, *, dimension: int, metric: str
) -> CheckedVectors:
    """Separate the usable vectors of a column from the others.

    Parameters
    ----------
    column
        Arrow lists (of any list type) of numbers, or tensors of one axis, n rows.
    dimension
        Length of a usable vector.
    metric
        Under ``angular`` a vector of zeros has no direction and is rejected.

    Raises
    ------
    UsageError
        The column does not have lists of numbers.

    Examples
    --------
    >>> column = pa.array([[1.0, 2.0], None, [3.0]])
    >>> checked = check_vectors(column, dimension=2, metric="angular")
    >>> checked.rows.tolist(), {why: rows.tolist() for why, rows in checked.rejected.items()}
    ([0], {'null_vector': [1], 'wrong_length': [2]})
    """
    lists = _list_array(column)
    lengths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy(zero_copy_only=False)
    right = lengths == dimension
    rows = np.flatnonzero(right)
    vectors = _matrix(lists.filter(pa.array(right)), dimension)
    finite = np.isfinite(vectors).all(axis=1)
    zero = ~vectors.any(axis=1) if metric == "angular" else np.zeros(len(rows), dtype=bool)
    rejected = {
        NULL_VECTOR: np.flatnonzero(lengths < 0),
        WRONG_LENGTH: np.flatnonzero((lengths >= 0) & ~right),
        NOT_FINITE: rows[~finite],
        ZERO_VECTOR: rows[zero],
    }
    good = finite & ~zero
    return CheckedVectors(
        vectors=vectors[good],
        rows=rows[good],
        rejected={reason: where for reason, where in rejected.items() if len(where)},
    )


def _list_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array.type, pa.FixedShapeTensorType) and len(array.type.shape) == 1:
        array = array.storage
    if pa.types.is_null(array.type):
        array = pa.nulls(len(array), pa.list_(pa.float32()))
    kind = array.type
    if not any(is_list(kind) for is_list in _LIST_TYPES) or not _is_number(kind.value_type):
        raise UsageError(f"features must be lists of numbers; found the type {kind}")
    return array


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _matrix(lists: pa.Array, dimension: int) -> npt.NDArray[np.float32]:
    """Stack lists of equal length; null becomes NaN, a number beyond float32 becomes infinity."""
    numbers = lists.flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return np.asarray(numbers, dtype=np.float32).reshape(len(lists), dimension)
