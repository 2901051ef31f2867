"""A small index with tombstones, and what is in it, computed from its vectors alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.small_index import build_index
from tests.tombstones import add_tombstones

SHARDS, ROWS, DIMENSION = 3, 240, 20


@dataclass(frozen=True)
class SmallIndex:
    """An index whose shards take the ids by turns: row r of shard s has the id of 3 r + s.

    Attributes
    ----------
    ids, vectors
        Of all rows, those with tombstones too; whole numbers, which float16 stores exactly.
    live
        Which of them have no tombstone.
    """

    directory: Path
    metric: str
    ids: list[str]
    vectors: np.ndarray
    live: np.ndarray

    def place(self, image_id: str) -> tuple[int, int]:
        number = self.ids.index(image_id)
        return number % SHARDS, number // SHARDS

    def live_ids(self) -> list[str]:
        return [image_id for image_id, alive in zip(self.ids, self.live, strict=True) if alive]

    def distances(self, query: np.ndarray) -> np.ndarray:
        """Return float64 distances of all rows by definition."""
        rows, query = self.vectors.astype(np.float64), query.astype(np.float64)
        if self.metric == "dot":
            return -(rows @ query)
        if self.metric == "euclidean":
            return np.linalg.norm(rows - query, axis=1)
        return 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


def digest(vector: np.ndarray) -> int:
    """Return the digest of a vector as Spark has it, signed."""
    data = np.asarray(vector, "<f4").tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def small_index(
    folder: Path,
    metric: str = "euclidean",
    *,
    dead: Sequence[int] = (0, 1, 7, 100, 239),
    metadata: pa.Table | None = None,
    seed: int = 0,
) -> SmallIndex:
    random = np.random.default_rng(seed)
    centres = random.integers(-40, 40, size=(12, DIMENSION))
    vectors = centres[random.integers(12, size=ROWS)] + random.integers(-3, 4, (ROWS, DIMENSION))
    ids = [f"{number:04d}" for number in range(ROWS)]
    directory = build_index(
        folder / "index", vectors, ids=ids, metric=metric, n_shards=SHARDS, metadata=metadata
    )
    by_shard: dict[int, list[int]] = {}
    for number in dead:
        by_shard.setdefault(number % SHARDS, []).append(number // SHARDS)
    if by_shard:
        add_tombstones(directory, by_shard)
    live = np.ones(ROWS, np.bool_)
    live[list(dead)] = False
    return SmallIndex(directory, metric, ids, vectors.astype(np.float32), live)
