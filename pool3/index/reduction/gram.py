"""Sums over vectors, from which the PCA is fitted and the dtype of stored vectors is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from pool3.errors import UsageError
from pool3.vectors.distances import FloatArray, check_metric, unit_rows
from pool3.vectors.stored import DTYPES, rounding_error

# float16 is precise enough while its rounding error is at most a thousandth of the distance of the
# vectors from their mean (both root mean square): distances then have about that relative error.
# Overflow (infinite error), underflow and a large common offset all break the same bound.
_MAX_ROUNDING_SHARE = 1e-3


def prepare(vectors: npt.NDArray[Any], metric: str) -> FloatArray:
    """Return vectors as PCA takes them: of unit length under ``angular``, unchanged otherwise.

    Parameters
    ----------
    vectors
        Any real dtype, (n, d).

    Returns
    -------
    float64, (n, d)
    """
    return unit_rows(vectors) if metric == "angular" else np.asarray(vectors, dtype=np.float64)


class Gram:
    """Sums over vectors, accumulated in float64, from which PCA is fitted.

    Memory: 8 d^2 bytes (34 MB at 2048 numbers). Merging in a fixed order gives the same bits.

    Parameters
    ----------
    metric
        One of `pool3.vectors.distances.METRICS`.
    dimension
        d, the length of each vector.

    Attributes
    ----------
    count
        How many vectors were added.
    total
        float64, (d,): their sum, after `prepare`.
    products
        float64, (d, d): the sum of their outer products.
    rounding
        Sum of the squared errors of storing them as float16
        (`pool3.vectors.stored.rounding_error`).
    """

    def __init__(self, metric: str, dimension: int) -> None:
        self.metric = check_metric(metric)
        self.count = 0
        self.rounding = 0.0
        self.total: FloatArray = np.zeros(dimension)
        self.products: FloatArray = np.zeros((dimension, dimension))

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return len(self.total)

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Add usable vectors, float32, (n, d)."""
        rows = prepare(vectors, self.metric)
        self.count += len(rows)
        self.rounding += rounding_error(vectors, self.metric)
        self.total += rows.sum(axis=0)
        self.products += rows.T @ rows

    def merge(self, other: Gram) -> None:
        """Add the sums of another one."""
        self.count += other.count
        self.rounding += other.rounding
        self.total += other.total
        self.products += other.products

    def spread(self) -> float:
        """Return the mean squared distance of the vectors from their mean."""
        if not self.count:
            return 0.0
        mean = self.total / self.count
        return max(0.0, float(np.trace(self.products) / self.count - mean @ mean))

    def to_bytes(self) -> bytes:
        """Serialise, to pass through a binary column; `from_bytes` reads it."""
        sums = np.array([self.count, self.rounding])
        return bytes(
            save_tensors(
                {"sums": sums, "total": self.total, "products": self.products},
                metadata={"metric": self.metric},
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes, metric: str) -> Gram:
        """Read what `to_bytes` wrote."""
        tensors = load_tensors(data)
        gram = cls(metric, len(tensors["total"]))
        gram.count, gram.rounding = int(tensors["sums"][0]), float(tensors["sums"][1])
        gram.total, gram.products = tensors["total"], tensors["products"]
        return gram


def choose_dtype(gram: Gram, requested: str = "auto") -> str:
    """Return the dtype of the re-rank vectors: the requested one, or the shortest precise enough.

    Raises
    ------
    UsageError
        For a `requested` other than ``auto``, ``float16``, ``float32``.
    """
    if requested in DTYPES:
        return requested
    if requested != "auto":
        raise UsageError(
            f"vectors_dtype must be one of auto, {', '.join(DTYPES)}; found {requested!r}"
        )
    allowed = _MAX_ROUNDING_SHARE**2 * gram.spread() * gram.count
    return "float16" if gram.rounding <= allowed else "float32"
