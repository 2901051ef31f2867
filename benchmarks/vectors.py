"""Vectors to measure an index with: two generators, and the real ones of ../shared/data.

usage: python -m benchmarks.vectors FEATURES

`clustered` is a thousand clouds in a space of 64 numbers, seen through 2048 with noise on top.
`features` has the spectrum and the offset of features of real photos, and as much of the variance
between clouds as lets neighbours lie about as near as they do there. The command prints the numbers
that it is made from, for a feature table: those below are of the 1582 photos in ../shared/data that
are no odd ones, with the model seeded (`./submit.sh extract-features --input ../shared/data
--output FEATURES --model seeded`).

Rows come in blocks, each from a seed of its own, so that any part can be drawn anywhere again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK_ROWS = 4096
DIMENSION = 2048

#: The block that queries are drawn from; no table has so many rows.
QUERY_BLOCK = 2**31

# Which eigenvalues of unit features are kept, counted from 1, and what share of the variance each
# one is; the others lie on straight lines between them, both scales logarithmic.
SPECTRUM_AT = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
# fmt: off
SPECTRUM = (
    0.124, 0.0809, 0.0594, 0.0216, 0.0108, 0.0045,
    0.00184, 0.000766, 0.00031, 0.000113, 4.25e-05, 1.59e-05,
)
# fmt: on
MEAN_LENGTH = 0.7723  # of unit features
# The share of the variance that lies between clouds. With none, the tenth neighbour of 1582 vectors
# of this spectrum lies at 0.79 of the median distance; among the 1582 photos it lies at 0.63.
BETWEEN = 0.6


class Generator(Protocol):
    """Where vectors come from."""

    metric: str
    dimension: int

    def block(self, number: int) -> Array:
        """Return a block of at most `BLOCK_ROWS` vectors, float32; empty past the end."""


@dataclass(frozen=True)
class Clustered:
    """A thousand equal clouds in 64 dimensions, seen through 2048 numbers with noise."""

    dimension: int = DIMENSION
    latent: int = 64
    clusters: int = 1000
    within: float = 0.5
    noise: float = 0.3
    seed: int = 1
    metric: str = "angular"

    @cached_property
    def _centres(self) -> Array:
        rng = np.random.default_rng([self.seed, 0, 0])
        return rng.standard_normal((self.clusters, self.latent), dtype=np.float32)

    @cached_property
    def _view(self) -> Array:
        rng = np.random.default_rng([self.seed, 0, 1])
        view = rng.standard_normal((self.latent, self.dimension), dtype=np.float32)
        return view / np.float32(np.sqrt(self.latent))

    def block(self, number: int) -> Array:
        """Return a block, float32 (4096, d)."""
        rng = np.random.default_rng([self.seed, 1, number])
        cloud = self._centres[rng.integers(self.clusters, size=BLOCK_ROWS)]
        latent = cloud + self.within * rng.standard_normal(cloud.shape, dtype=np.float32)
        rows = rng.standard_normal((BLOCK_ROWS, self.dimension), dtype=np.float32)
        rows *= np.float32(self.noise)
        rows += latent @ self._view
        return rows


@dataclass(frozen=True)
class LikeFeatures:
    """Vectors with the spectrum of features of real photos, in clouds, off the origin as they."""

    dimension: int = DIMENSION
    clusters: int = 1000
    seed: int = 2
    metric: str = "angular"

    @cached_property
    def _basis(self) -> Array:
        """Return the scaled directions: orthogonal rows, whose squared lengths are the spectrum."""
        rng = np.random.default_rng([self.seed, 0, 0])
        directions, _ = np.linalg.qr(rng.standard_normal((self.dimension, self.dimension)))
        variance = spectrum(self.dimension) * (1 - MEAN_LENGTH**2)
        return np.asarray(directions * np.sqrt(variance)[:, None], dtype=np.float32)

    @cached_property
    def _mean(self) -> Array:
        rng = np.random.default_rng([self.seed, 0, 1])
        mean = np.abs(rng.standard_normal(self.dimension))
        return np.asarray(mean * (MEAN_LENGTH / np.linalg.norm(mean)), dtype=np.float32)

    @cached_property
    def _centres(self) -> Array:
        rng = np.random.default_rng([self.seed, 0, 2])
        return rng.standard_normal((self.clusters, self.dimension), dtype=np.float32)

    def block(self, number: int) -> Array:
        """Return a block, float32 (4096, d)."""
        rng = np.random.default_rng([self.seed, 1, number])
        rows = rng.standard_normal((BLOCK_ROWS, self.dimension), dtype=np.float32)
        rows *= np.float32(np.sqrt(1 - BETWEEN))
        cloud = self._centres[rng.integers(self.clusters, size=BLOCK_ROWS)]
        rows += np.float32(np.sqrt(BETWEEN)) * cloud
        return rows @ self._basis + self._mean


@dataclass(frozen=True)
class BigAnn:
    """10,000 SIFT descriptors of 128 numbers and their queries, real ones, euclidean."""

    folder: Path = Path(__file__).resolve().parents[2] / "shared" / "data" / "vectors_bigann10k"
    dimension: int = 128
    metric: str = "euclidean"

    def block(self, number: int) -> Array:
        """Return a block of the rows, or the hundred queries as the block of queries."""
        if number == QUERY_BLOCK:
            return np.load(self.folder / "query_u8.npy").astype(np.float32)
        rows = np.load(self.folder / "base_u8.npy", mmap_mode="r")
        return rows[number * BLOCK_ROWS : (number + 1) * BLOCK_ROWS].astype(np.float32)


GENERATORS: dict[str, Generator] = {
    "clustered": Clustered(),
    "features": LikeFeatures(),
    "bigann10k": BigAnn(),
}


def drawn(generator: Generator, rows: int, start: int = 0) -> Iterator[Array]:
    """Yield blocks of some rows, from a row at the beginning of a block on, until they end."""
    number, left = start // BLOCK_ROWS, rows
    while left > 0:
        block = generator.block(number)[:left]
        if not len(block):
            return
        yield block
        number, left = number + 1, left - len(block)


def queries_of(generator: Generator, count: int) -> Array:
    """Return queries that are not among the rows, float32 (n, d), n at most `count`."""
    return generator.block(QUERY_BLOCK)[:count]


def spectrum(dimension: int) -> Array:
    """Return shares of the variance, float64 (d,), descending, that add up to 1."""
    at = np.arange(1, dimension + 1)
    values = np.exp(np.interp(np.log(at), np.log(SPECTRUM_AT), np.log(SPECTRUM)))
    return np.asarray(values / values.sum())


def facts(features: Array) -> dict[str, Any]:
    """Return of features, float32 (n, d), the numbers that `LikeFeatures` is made from.

    The spectrum is the sample's, whose tail ends at n - 1: beyond, the last slope goes on.
    """
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    mean = units.mean(axis=0)
    values = np.linalg.svd(units - mean, compute_uv=False) ** 2 / len(units)
    shares = values / values.sum()
    # The last values of a sample are far too small, since it has not seen those directions.
    sure = len(shares) // 4
    slope = np.log(shares[sure - 1] / shares[sure // 2 - 1]) / np.log(sure / (sure // 2))
    at = np.array(SPECTRUM_AT)
    beyond = shares[sure - 1] * (at / sure) ** slope
    known = np.where(at <= sure, shares[np.minimum(at, sure) - 1], beyond)
    return {
        "rows": len(units),
        "SPECTRUM": [float(f"{value:.3g}") for value in known],
        "MEAN_LENGTH": round(float(np.linalg.norm(mean)), 4),
        "tenth neighbour / median distance": nearness(units),
    }


def nearness(units: Array) -> float:
    """Return the median over rows of the tenth neighbour's distance over the median distance."""
    squared = np.clip(2 - 2 * units @ units.T, 0, None)
    tenth = np.sqrt(np.partition(squared, 10, axis=1)[:, 10])
    return round(float(np.median(tenth / np.sqrt(np.median(squared, axis=1)))), 4)


def main() -> None:
    """Print the numbers of a feature table, and how near neighbours lie in generated ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", help="a feature table")
    arguments = parser.parse_args()
    from pool3.features.table import open_features
    from pool3.features.vectors import SkippedRows, usable_rows, vector_dimension

    table = open_features(arguments.features)
    rules: dict[str, Any] = {
        "dimension": vector_dimension(table),
        "metric": "angular",
        "skipped_rows": SkippedRows(),
    }
    parts = [rows.vectors for file in table.files for rows in usable_rows(table, file, **rules)]
    features = np.concatenate(parts)
    for name, value in facts(features).items():
        print(f"{name} = {value}")
    for clouds in (len(features) // 16, 1000):
        made = np.concatenate(list(drawn(LikeFeatures(clusters=clouds), len(features))))
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        print(f"the same of as many generated rows in {clouds} clouds = {nearness(made)}")


if __name__ == "__main__":
    main()
