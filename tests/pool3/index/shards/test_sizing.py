"""As many shards as memory and files need; what does not fit is refused with the numbers."""

from __future__ import annotations

import pytest

from pool3.errors import UsageError
from pool3.index.reduction.pca import Reduction
from pool3.index.shards.sizing import MAX_FILE_BYTES, ROWS_A_SHARD, ShardCosts, plan_shards
from pool3.index.shards.writer import ShardWriter

COSTS = ShardCosts.estimate(dimension=2048, tree_dimension=128, n_trees=50, vectors_dtype="float16")


@pytest.mark.parametrize("rows", [1, 249_999, 250_001, 1_000_000, 10**8])
@pytest.mark.parametrize("n_trees", [1, 50, 2000])
@pytest.mark.parametrize("max_memory_mb", [600, 4096])
def test_a_planned_shard_fits_memory_and_file(rows: int, n_trees: int, max_memory_mb: int) -> None:
    costs = ShardCosts.estimate(
        dimension=2048, tree_dimension=128, n_trees=n_trees, vectors_dtype="float32"
    )
    n_shards = plan_shards(rows, costs, max_memory_mb=max_memory_mb)
    each = rows / n_shards
    assert each <= ROWS_A_SHARD
    assert each * costs.tree_bytes <= max_memory_mb * 1_000_000
    assert each * max(costs.tree_bytes, costs.vector_bytes) <= MAX_FILE_BYTES
    if n_shards > 1:  # and no fewer would do
        fewer = rows / (n_shards - 1) * 1.06
        assert fewer > ROWS_A_SHARD or fewer > costs.most_rows(max_memory_mb * 1_000_000)


def test_a_requested_number_is_used_where_it_fits() -> None:
    assert plan_shards(10, COSTS, max_memory_mb=4096, n_shards=7) == 7


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(UsageError, match=r"--n-shards of at least 3, found 1: of 1000000 rows"):
        plan_shards(1_000_000, COSTS, max_memory_mb=4096, n_shards=1)
    with pytest.raises(UsageError, match=r"--max-build-memory-mb of at least 4\d\d, found 100"):
        plan_shards(1, COSTS, max_memory_mb=100)


@pytest.mark.parametrize("metric", ["angular", "dot"])
def test_the_estimate_is_near_annoy(tmp_path: object, metric: str) -> None:
    from pathlib import Path

    import numpy as np

    random, n = np.random.default_rng(1), 6000
    vectors = random.normal(size=(n, 64)).astype(np.float32)
    reduction = Reduction(metric, 64)
    with ShardWriter(
        Path(str(tmp_path)) / "s", reduction=reduction, n_trees=20, seed=1, vectors_dtype="float16"
    ) as writer:
        writer.append([f"{row:05d}" for row in range(n)], vectors)
        built = writer.close()
    costs = ShardCosts.estimate(
        dimension=64,
        tree_dimension=reduction.tree_dimension,
        n_trees=20,
        vectors_dtype="float16",
    )
    assert 0.8 < built.files["tree"].stat().st_size / (n * costs.tree_bytes) < 1.1
    assert abs(built.files["vectors"].stat().st_size - n * costs.vector_bytes) <= 256
