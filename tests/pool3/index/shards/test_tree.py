"""The tree file of a shard: searched by Annoy, or scanned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from annoy import AnnoyIndex

from pool3.errors import InvalidIndex
from pool3.index.shards.tree import Tree

DIMENSION = 24
ROWS = 3000


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    drawn = np.random.default_rng(5).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    drawn[1000:1010] = drawn[7]  # eleven of a kind
    return drawn


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, vectors: np.ndarray) -> Path:
    annoy = AnnoyIndex(DIMENSION, "euclidean")
    annoy.set_seed(1)
    for row, vector in enumerate(vectors):
        annoy.add_item(row, vector)
    annoy.build(5, n_jobs=1)
    path = tmp_path_factory.mktemp("tree") / "tree.ann"
    annoy.save(str(path))
    return path


def opened(path: Path, rows: int = ROWS) -> Tree:
    return Tree(path, "the tree", dimension=DIMENSION, rows=rows)


def true_distances(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    return np.sqrt(((vectors.astype(np.float64) - query) ** 2).sum(axis=1))


@pytest.mark.parametrize("count", [1, 10, 500, ROWS])
def test_where_entries_cost_as_much_all_rows_are_scanned(
    path: Path, vectors: np.ndarray, count: int
) -> None:
    query = vectors[7] + 0.01
    rows, distances = opened(path).nearest(query.tolist(), count, entries=ROWS // 3)
    true = true_distances(vectors, query)
    expected = np.lexsort((np.arange(ROWS), true))[:count]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, true[expected], rtol=1e-5)


def test_few_entries_are_searched_for(path: Path, vectors: np.ndarray) -> None:
    tree, missed = opened(path), 0
    for query in vectors[:50] + 0.3:
        rows, distances = tree.nearest(query.tolist(), 10, entries=60)
        true = true_distances(vectors, query)
        np.testing.assert_allclose(distances, true[rows], rtol=1e-5)
        assert (np.diff(distances) >= 0).all()
        missed += len(np.setdiff1d(np.argsort(true)[:10], rows))
    assert missed > 50  # else all rows were scanned


def test_distances_that_overflow_are_not_lost(path: Path) -> None:
    rows, _ = opened(path).nearest([1e30] * DIMENSION, 20, entries=ROWS)
    assert len(set(rows.tolist())) == 20


def test_another_number_of_rows_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidIndex, match="must have items 10, as the manifest states; found 3"):
        opened(path, rows=10)
    (tmp_path / "short").write_bytes(path.read_bytes()[: 4 * (4 + DIMENSION)])
    with pytest.raises(InvalidIndex, match="the tree"):
        opened(tmp_path / "short")
