"""Vectors that were rounded once are copied bit for bit, however often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pool3.errors import UsageError
from pool3.index.reduction.pca import Reduction
from pool3.index.shards.writer import ShardWriter
from pool3.vectors.stored import digests


def written(
    folder: Path, vectors: np.ndarray, metric: str, dtype: str, stored_digests: np.ndarray | None
) -> np.ndarray:
    reduction = Reduction(metric, vectors.shape[1])
    with ShardWriter(folder, reduction=reduction, n_trees=1, seed=1, vectors_dtype=dtype) as writer:
        writer.append(
            [f"{row:03d}" for row in range(len(vectors))], vectors, digests=stored_digests
        )
        writer.close()
    return np.asarray(np.load(folder / "vectors.npy"))


@pytest.mark.parametrize("metric", ["angular", "euclidean", "dot"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_stored_vectors_are_copied_bit_for_bit(tmp_path: Path, metric: str, dtype: str) -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(200, 8)).astype(np.float32)
    vectors[:50, 0] = 4.0 - 2.0**-20  # scaled and rounded to float16 it is 1, a power of two
    vectors[50:60] *= 2.0**-18  # and some of these are subnormal
    first = written(tmp_path / "first", vectors, metric, dtype, None)
    stored_digests = digests(vectors)
    second = written(tmp_path / "second", first.astype(np.float32), metric, dtype, stored_digests)
    assert first.tobytes() == second.tobytes()


def test_digests_come_with_all_batches_or_none(tmp_path: Path) -> None:
    vectors = np.ones((1, 2), dtype=np.float32)
    with ShardWriter(
        tmp_path / "s", reduction=Reduction("dot", 2), n_trees=1, seed=1, vectors_dtype="float16"
    ) as writer:
        writer.append(["a"], vectors)
        with pytest.raises(UsageError, match="digests must come with every batch"):
            writer.append(["b"], vectors, digests=digests(vectors))
