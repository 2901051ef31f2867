"""From vectors to the short ones that the trees hold.

Annoy always runs ``euclidean`` on reduced vectors. ``angular``: rows are L2-normalised, then
centred PCA. ``euclidean``: centred PCA. ``dot``: uncentred PCA, then one more column
sqrt(M^2 - |x|^2), 0 for a query, M being the longest reduced row of the shard: the nearest rows
are then those of the largest inner product (Bachrach et al., RecSys 2014). Vectors of at most
`MAX_DIMENSION` numbers are not projected.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from pool3.errors import InvalidIndex, UsageError
from pool3.index.format import tensors as tensor_files
from pool3.vectors.distances import FloatArray, check_metric, squared_norms, unit_rows
from pool3.vectors.stored import DTYPES, rounding_error

MAX_DIMENSION = 128

# float16 is good enough while its rounding is, root mean square, within a thousandth of how far
# vectors lie from their mean: distances between them are then right to about that share. Overflow
# (infinite error), underflow and a large common offset all break the same bound.
_MAX_ROUNDING_SHARE = 1e-3

# Rows that are reduced at a time: of 2048 numbers in float64, 2 MB, which a core's own cache holds.
# All of 2048 rows at once take 2.3 times as long.
_CHUNK_ROWS = 128


def prepare(vectors: npt.NDArray[Any], metric: str) -> FloatArray:
    """Vectors as PCA sees them: of unit length under ``angular``, as they are otherwise.

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
    """Sums over vectors, accumulated in float64, that PCA is fitted from.

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
        What storing them as float16 would cost, summed (`vectors.rounding_error`).
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
        """Add what another one saw."""
        self.count += other.count
        self.rounding += other.rounding
        self.total += other.total
        self.products += other.products

    def spread(self) -> float:
        """Mean squared distance of the vectors from their mean."""
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
    """Dtype of the re-rank vectors: what was asked for, or the shorter that is good enough.

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


@dataclass(frozen=True)
class Reduction:
    """How vectors become the short ones that the trees hold.

    Attributes
    ----------
    metric
        One of `pool3.vectors.distances.METRICS`.
    mean
        float32, (d,): subtracted first; zeros for ``dot``. None without PCA.
    components
        float32, (r, d): orthonormal rows, largest variance first. None without PCA.
    input_dimension
        d, the length of a vector.
    explained_variance
        Share of the variance (``dot``: of the mean squared length) that is kept, 0 to 1.
    """

    metric: str
    input_dimension: int
    mean: npt.NDArray[np.float32] | None = None
    components: npt.NDArray[np.float32] | None = None
    explained_variance: float = 1.0

    @property
    def kind(self) -> str:
        """``pca`` or ``none``."""
        return "none" if self.components is None else "pca"

    @property
    def dimension(self) -> int:
        """r, the length of a reduced vector, without the extra column of ``dot``."""
        return self.input_dimension if self.components is None else len(self.components)

    @property
    def tree_dimension(self) -> int:
        """Length of what a tree holds: r, and one more under ``dot``."""
        return self.dimension + (self.metric == "dot")

    def reduce(self, vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Reduce vectors or queries.

        Parameters
        ----------
        vectors
            Any real dtype, (n, d).

        Returns
        -------
        float32, (n, r)
        """
        reduced = np.empty((len(vectors), self.dimension), dtype=np.float32)
        for start in range(0, len(vectors), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            rows = prepare(vectors[chunk], self.metric)
            if self.components is None or self.mean is None:
                reduced[chunk] = rows
            else:
                reduced[chunk] = (rows - self._wide_mean).astype(np.float32) @ self.components.T
        return reduced

    @cached_property
    def _wide_mean(self) -> FloatArray:
        return np.asarray(self.mean, dtype=np.float64)

    def variance(self, vectors: npt.NDArray[np.float32]) -> tuple[float, float]:
        """Sum what the reduction keeps of vectors' squared distances from its mean, and all."""
        rows = prepare(vectors, self.metric)
        centred = rows if self.mean is None else rows - self.mean
        kept = float(squared_norms(self.reduce(vectors)).sum()) if len(rows) else 0.0
        whole = float(squared_norms(centred).sum())
        return (whole if self.components is None else kept), whole

    def to_bytes(self) -> bytes:
        """Serialise a PCA as safetensors."""
        if self.mean is None or self.components is None:
            raise ValueError("without PCA there is nothing to write")
        return tensor_files.serialised(
            {"mean": self.mean, "components": self.components},
            metric=self.metric,
            explained_variance=self.explained_variance,
        )


def load_reduction(
    data: bytes, *, metric: str, dimension: int, reduced: int, explained_variance: float
) -> Reduction:
    """Read a PCA that `Reduction.to_bytes` wrote, and check its shape.

    Raises
    ------
    InvalidIndex
        When the tensors are not there or not of the shapes that the manifest states, or in a
        format that this release does not know.
    """
    tensors = tensor_files.parsed(data, "a reduction")
    try:
        mean, components = tensors["mean"], tensors["components"]
    except KeyError as error:
        raise InvalidIndex(f"the reduction holds no mean and components: {error}") from error
    if mean.shape != (dimension,) or components.shape != (reduced, dimension):
        raise InvalidIndex(
            f"the reduction must go from {dimension} to {reduced} numbers; found a mean of shape "
            f"{mean.shape} and components of shape {components.shape}"
        )
    return Reduction(metric, dimension, mean, components, explained_variance)


def fit(gram: Gram, *, n_components: int = MAX_DIMENSION) -> Reduction:
    """Fit the reduction from the sums over all vectors.

    Parameters
    ----------
    gram
        Sums over all usable vectors.
    n_components
        Length of the reduced vectors; vectors that are no longer than this stay as they are.

    Raises
    ------
    UsageError
        When no vector was added.
    """
    if not gram.count:
        raise UsageError("an index needs at least one usable vector; found none")
    if gram.dimension <= n_components:
        return Reduction(gram.metric, gram.dimension)
    mean = np.zeros(gram.dimension) if gram.metric == "dot" else gram.total / gram.count
    values, vectors = np.linalg.eigh(gram.products / gram.count - np.outer(mean, mean))
    values = np.clip(values[::-1], 0.0, None)
    components = _fixed_signs(vectors.T[::-1][:n_components])
    whole = float(values.sum())
    return Reduction(
        metric=gram.metric,
        input_dimension=gram.dimension,
        mean=mean.astype(np.float32),
        components=np.ascontiguousarray(components, dtype=np.float32),
        explained_variance=float(values[:n_components].sum()) / whole if whole else 1.0,
    )


def _fixed_signs(components: FloatArray) -> FloatArray:
    """Turn each component so that its largest number is positive: an eigenvector has no sign."""
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return np.asarray(components * np.where(signs == 0, 1.0, signs)[:, None])


def longest(reduced: npt.NDArray[np.float32]) -> float:
    """M: the length of the longest of reduced rows, 0 without any."""
    return float(np.sqrt(squared_norms(reduced).max(initial=0.0)))


def tree_rows(
    reduced: npt.NDArray[np.float32], *, metric: str, max_norm: float
) -> npt.NDArray[np.float32]:
    """Reduced rows as a tree holds them: with the column sqrt(M^2 - |x|^2) under ``dot``.

    Parameters
    ----------
    reduced
        float32, (n, r).
    max_norm
        M of the shard; used under ``dot`` only.

    Returns
    -------
    float32, (n, r) or (n, r + 1)
    """
    if metric != "dot":
        return reduced
    missing = np.sqrt(np.clip(max_norm**2 - squared_norms(reduced), 0.0, None))
    return np.column_stack([reduced, missing.astype(np.float32)])


def tree_query(reduced: npt.NDArray[np.float32], *, metric: str) -> list[float]:
    """One reduced query, float32 (r,), as a tree is asked: with a 0 at the end under ``dot``."""
    numbers: list[float] = reduced.tolist()
    return [*numbers, 0.0] if metric == "dot" else numbers


def merge_keys(tree_distances: FloatArray, *, metric: str, max_norm: float) -> FloatArray:
    """Make distances in the trees of different shards comparable; ascending is nearest.

    Under ``dot`` a tree's distance is sqrt(|q|^2 + M^2 - 2 q.x) with M of its own shard; without
    M^2 its square orders by q.x.

    Parameters
    ----------
    tree_distances
        float64, (m,).
    max_norm
        M of the shard; used under ``dot`` only.
    """
    return tree_distances**2 - max_norm**2 if metric == "dot" else tree_distances
