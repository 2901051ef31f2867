"""Rows, exact distances and labels of shards against the vectors that the index was built from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pool3.errors import UsageError
from pool3.search.evaluate import drawn_rows
from tests.udfs.arrow import Broadcast, grouped, shard_batches, summaries
from tests.udfs.conftest import LABELS
from tests.udfs.small_data import DIMENSION, ROWS, SHARDS, SmallIndex
from udfs import evaluate
from udfs.evaluate import Queries, measure_exactly, read_labels, take_rows, true_distances


def test_drawn_rows_are_live_ones_with_their_vectors(any_index: SmallIndex) -> None:
    index = grouped(any_index.directory)
    drawn = drawn_rows(index.value.snapshot.manifest, 90, seed=3)
    tasks = summaries(take_rows(index, drawn), shard_batches(index.value))
    ids = [name for task in tasks for name in task["ids"]]
    assert len(ids) == len(set(ids)) == 90
    assert set(ids) <= set(any_index.live_ids())
    vectors = np.frombuffer(b"".join(task["payload"] for task in tasks), "<f4")
    expected = any_index.vectors[[any_index.ids.index(name) for name in ids]]
    stored = vectors.reshape(-1, DIMENSION)
    if any_index.metric == "angular":  # stored rows have another length
        stored, expected = (
            matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in (stored, expected)
        )
    np.testing.assert_allclose(stored, expected, rtol=1e-6)


def test_all_rows_are_drawn_where_as_many_are_wanted(euclidean_index: SmallIndex) -> None:
    index = grouped(euclidean_index.directory)
    drawn = drawn_rows(index.value.snapshot.manifest, ROWS * 2, seed=3)
    tasks = summaries(take_rows(index, drawn), shard_batches(index.value))
    ids = sorted(name for task in tasks for name in task["ids"])
    assert ids == euclidean_index.live_ids()
    assert summaries(take_rows(index, {}), shard_batches(index.value)) == []


@pytest.mark.parametrize("block", [3, 1000])
def test_distances_of_all_shards_are_those_of_brute_force(
    any_index: SmallIndex, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_QUERIES_AT_ONCE", block)
    index = grouped(any_index.directory)
    # A row with a tombstone, live rows, and no row at all.
    names = [any_index.ids[7], *any_index.ids[20:26], "no row"]
    vectors = np.concatenate([any_index.vectors[[7, *range(20, 26)]], np.ones((1, DIMENSION))])
    queries = Queries(names, vectors.astype(np.float32))
    function = measure_exactly(index, Broadcast(queries), k=10)
    tasks = summaries(function, shard_batches(index.value))
    assert len(tasks) == SHARDS
    result = true_distances(tasks[0]["payload"], len(names))
    for task in tasks[1:]:
        result = result.merged(true_distances(task["payload"], len(names)))
    for at, (name, vector) in enumerate(zip(names, queries.vectors, strict=True)):
        others = any_index.live & (np.array(any_index.ids) != name)
        expected = np.sort(any_index.distances(vector)[others])[:10]
        np.testing.assert_allclose(result.distances[at], expected, rtol=1e-5, atol=1e-6)


def test_labels_of_the_wanted_rows_and_counts_of_all(euclidean_index: SmallIndex) -> None:
    index = grouped(euclidean_index.directory)
    live = [number for number in range(ROWS) if euclidean_index.live[number]]
    wanted = {euclidean_index.ids[number] for number in (0, 2, 4, 11, 30)} | {"no row"}
    function = read_labels(index, Broadcast(wanted), "label")
    tasks = summaries(function, shard_batches(index.value))
    counts: Counter[str] = Counter()
    for task in tasks:
        counts.update(task["counts"])
    assert counts == Counter(label for n in live if (label := LABELS[n]) is not None)
    labels = {name: label for task in tasks for name, label in task["labels"].items()}
    assert labels == {euclidean_index.ids[number]: LABELS[number] for number in (2, 4, 11, 30)}


def test_a_column_that_the_index_lacks_is_an_error(
    euclidean_index: SmallIndex, any_index: SmallIndex
) -> None:
    for directory, column in (
        (euclidean_index.directory, "colour"),
        (any_index.directory, "label"),  # without any metadata
    ):
        index = grouped(directory)
        with pytest.raises(UsageError, match=column):
            summaries(read_labels(index, Broadcast(set()), column), shard_batches(index.value))
