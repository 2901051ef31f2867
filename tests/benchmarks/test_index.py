"""The yardstick of the index benchmark: recall by distance, what a recall costs, drawn vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import index
from benchmarks.index_report import at_recall, frontier
from benchmarks.million_table import merged
from benchmarks.vectors import BLOCK_ROWS, Clustered, drawn, spectrum


@pytest.fixture
def rows(tmp_path):
    vectors = np.random.default_rng(3).standard_normal((300, 8)).astype(np.float32)
    vectors[100:110] = vectors[100]  # ten twins: any of them is as good as another
    vectors.tofile(tmp_path / "rows.f32")
    facts = {"rows": 300, "dimension": 8, "metric": "euclidean"}
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    return index.opened(tmp_path)


def test_recall_is_by_distance_and_counts_a_row_once(rows):
    vectors = rows.mapped()
    queries = np.stack([vectors[100], vectors[7] + 0.01])
    truth = index.true_distances(rows, queries)
    wide = queries.astype(np.float64)
    far = ((vectors[None] - wide[:, None]) ** 2).sum(axis=2)
    assert truth == pytest.approx(np.sort(far, axis=1)[:, index.K - 1], abs=1e-12)
    best = np.argsort(far, axis=1, kind="stable")[:, : index.K]
    assert index.recall_of(rows, queries, truth, best) == 1.0
    assert index.recall_of(rows, queries, truth, best[:, ::-1]) == 1.0
    assert index.recall_of(rows, queries, truth, np.repeat(best[:, :1], index.K, axis=1)) == 0.1
    worst = np.argsort(-far, axis=1)[:, : index.K]
    assert index.recall_of(rows, queries, truth, worst) == 0.0
    half = np.where(np.arange(index.K) < 5, best, -1)
    assert index.recall_of(rows, queries, truth, half) == 0.5


def test_the_cost_of_a_recall_lies_between_its_neighbours():
    rng = np.random.default_rng(4)
    points = [{"recall": float(r), "ms": float(ms)} for r, ms in rng.uniform(size=(30, 2))]
    line = frontier(points, "ms")
    assert line == sorted(line)
    assert [cost for _, cost in line] == sorted(cost for _, cost in line)
    for recall in np.linspace(0, 1, 50):
        cost = at_recall(points, recall, "ms")
        reaching = [point["ms"] for point in points if point["recall"] >= recall]
        assert (cost is None) == (not reaching)
        if cost is not None:
            assert min(point["ms"] for point in points) <= cost <= min(reaching)
    for recall, cost in line:
        assert at_recall(points, recall, "ms") == cost


def test_rows_are_the_same_however_they_are_drawn():
    generator = Clustered(dimension=16, clusters=5)
    whole = np.concatenate(list(drawn(generator, 2 * BLOCK_ROWS + 100)))
    assert len(whole) == 2 * BLOCK_ROWS + 100
    tail = np.concatenate(list(drawn(generator, 50, start=2 * BLOCK_ROWS)))
    assert (whole[2 * BLOCK_ROWS :][:50] == tail).all()
    assert len(np.unique(whole, axis=0)) == len(whole)
    shares = spectrum(2048)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) <= 0).all()


def test_the_truth_of_parts_is_that_of_the_whole(monkeypatch):
    monkeypatch.setattr("benchmarks.million_table.KNOWN", 5)
    far = np.random.default_rng(5).uniform(size=(3, 40))
    numbers = np.broadcast_to(np.arange(40), far.shape)
    found = (numbers[:, :0], far[:, :0])
    for part in np.array_split(np.arange(40), 7):
        found = merged(found, (numbers[:, part], far[:, part]))
    assert (found[0] == np.argsort(far, axis=1)[:, :5]).all()
    assert (found[1] == np.sort(far, axis=1)[:, :5]).all()
