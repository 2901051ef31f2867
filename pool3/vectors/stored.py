"""The stored form of vectors, from which candidates are re-ranked.

Deliberately not here: the reduced vectors of the trees (`pool3.index.reduction`).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import UsageError
from pool3.vectors.distances import squared_norms
from pool3.vectors.float16 import as_float16, as_float32

DTYPES = ("float16", "float32")


def storable(vectors: npt.NDArray[np.float32], metric: str) -> npt.NDArray[np.float32]:
    """Return the vectors to store, before they are rounded to the stored dtype.

    Under ``angular`` only the direction matters, so each row is scaled by the power of two that
    brings its largest number into [0.5, 1). Then no number overflows, and only numbers below 2^-126
    times the largest are rounded. Under the other metrics vectors stay as they are.

    Parameters
    ----------
    vectors
        float32, (n, d), finite.

    Returns
    -------
    float32, (n, d)
    """
    if metric != "angular" or not len(vectors):
        return vectors
    _, exponents = np.frexp(np.maximum(vectors.max(axis=1), -vectors.min(axis=1)))
    return np.asarray(np.ldexp(vectors, -exponents[:, None]))


def rounding_error(vectors: npt.NDArray[np.float32], metric: str) -> float:
    """Return the sum of squared errors of rows in float16, of unit rows if angular.

    It is infinite if a value overflows float16.
    """
    stored = storable(vectors, metric)
    errors = squared_norms(stored - as_float32(as_float16(stored)))
    if metric == "angular":
        errors = errors / squared_norms(stored)
    return float(errors.sum())


def stored_rows(vectors: npt.NDArray[np.float32], *, metric: str, dtype: str) -> npt.NDArray[Any]:
    """Round vectors to the stored dtype.

    Returns
    -------
    float16 or float32 (little-endian), (n, d)

    Raises
    ------
    UsageError
        The dtype is float16, and a value is beyond its range of 65504.
    """
    stored = storable(vectors, metric)
    if dtype == "float32":
        return stored.astype("<f4", copy=False)
    if len(stored) and max(stored.max(), -stored.min()) > np.finfo(np.float16).max:
        raise UsageError(
            f"vectors stored as {dtype} must stay within ±65504; found "
            f"{float(np.abs(vectors).max()):g}: build with vectors_dtype float32 or auto"
        )
    return as_float16(stored).astype("<f2", copy=False)


def digests(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Return a short digest of each vector, to detect changes.

    Parameters
    ----------
    vectors
        float32, (n, d), as in the feature table.

    Returns
    -------
    uint64, (n,)
    """
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    joined = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)
