"""The reduction of vectors by PCA: fitting it from sums over vectors, applying and storing it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import InvalidIndex, UsageError
from pool3.index.format import tensors as tensor_files
from pool3.index.reduction.gram import Gram, prepare
from pool3.vectors.distances import FloatArray, squared_norms

#: Length of reduced vectors; shorter vectors are not projected.
MAX_DIMENSION = 128

# Rows that are reduced at a time: 2 MB for 2048 numbers in float64, which fit a core's own cache.
# Reducing 2048 rows at once takes 2.3 times as long.
_CHUNK_ROWS = 128


@dataclass(frozen=True)
class Reduction:
    """How vectors become the reduced vectors of the trees.

    Attributes
    ----------
    metric
        One of `pool3.vectors.distances.METRICS`.
    mean
        float32, (d,): subtracted first; zeros under ``dot``. None without PCA.
    components
        float32, (r, d): orthonormal rows, largest variance first. None without PCA.
    input_dimension
        d, the length of a vector.
    explained_variance
        Share of the variance (``dot``: of the mean squared length) that the components explain, 0
        to 1.
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
        """Length of a row of a tree: r, and one more under ``dot``."""
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
        """Return the squared distances of vectors from the mean, summed: reduced, and all."""
        rows = prepare(vectors, self.metric)
        centred = rows if self.mean is None else rows - self.mean
        explained = float(squared_norms(self.reduce(vectors)).sum()) if len(rows) else 0.0
        whole = float(squared_norms(centred).sum())
        return (whole if self.components is None else explained), whole

    def to_bytes(self) -> bytes:
        """Serialise a PCA as safetensors."""
        if self.mean is None or self.components is None:
            raise ValueError("a reduction without PCA has no file")
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
        When tensors are missing, do not have the shapes that the manifest states, or are in a
        format that this release does not know.
    """
    tensors = tensor_files.parsed(data, "a reduction")
    try:
        mean, components = tensors["mean"], tensors["components"]
    except KeyError as error:
        raise InvalidIndex(
            f"a reduction must have mean and components; found no {error}"
        ) from error
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
        Length of the reduced vectors; vectors of at most this length are not projected.

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
    """Make the largest number of each component positive, since eigenvectors have no fixed sign."""
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return np.asarray(components * np.where(signs == 0, 1.0, signs)[:, None])
