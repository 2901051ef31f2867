"""Shards that are searched together: candidates, their merge, and exact distances."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool3.index.recall.effort import Effort
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.search.shard_set import ShardSet
from pool3.vectors.distances import METRICS, distances
from tests.tombstones import add_tombstones

ROWS = 150
ALL_ENTRIES = 10**6

MakeIndex = Callable[..., Path]


def vectors_of(dimension: int, seed: int = 0) -> np.ndarray:
    """Rows of three lengths, 0.5 to 2 on average, by turns: each of three shards has its own."""
    rows = np.random.default_rng(seed).normal(size=(ROWS, dimension)) / dimension**0.5
    return (rows * 2.0 ** (np.arange(ROWS) % 3 - 1)[:, None]).astype(np.float32)


def merged_ids(shards: ShardSet, query: np.ndarray, limit: int) -> list[str]:
    """Return the ids of the merged candidates of all rows of all shards."""
    reduced = shards.reduce(query)
    candidates = [
        reader.candidates(reduced, entries=ALL_ENTRIES, most=ROWS) for reader in shards.readers
    ]
    owners, rows, keys = shards.merge(range(len(candidates)), candidates, limit)
    assert (np.diff(keys) >= 0).all()
    return [shards.image_id(shard, row) for shard, row in zip(owners, rows, strict=True)]


def reduced_keys(vectors: np.ndarray, query: np.ndarray, directory: Path) -> np.ndarray:
    """Return what orders all rows of an index at once: distances of reduced rows, or -q.x."""
    reduction = open_snapshot(directory).reduction
    rows, reduced = (reduction.reduce(each).astype(np.float64) for each in (vectors, query[None]))
    if reduction.metric == "dot":
        return -(rows @ reduced[0])
    return np.linalg.norm(rows - reduced, axis=1)


def agree(ids: list[str], keys: np.ndarray, limit: int) -> None:
    """Assert that ids are those with the smallest keys, except for rows at the same distance."""
    assert len(set(ids)) == len(ids) == min(limit, len(keys))
    merged = keys[[int(image_id[2:]) for image_id in ids]]
    np.testing.assert_allclose(merged, np.sort(keys)[:limit], atol=2e-6 * np.abs(keys).max() ** 2)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimension", [8, 150])
@pytest.mark.parametrize("limit", [1, 25, ROWS + 1])
def test_merged_shards_are_one_brute_force_over_reduced_rows(
    make_index: MakeIndex, metric: str, dimension: int, limit: int
) -> None:
    vectors = vectors_of(dimension)
    directory = make_index(vectors, metric=metric, n_shards=3)
    shards = ShardSet(open_snapshot(directory))
    assert len({reader.max_norm for reader in shards.readers}) == 3
    for at, other in ((4, 51), (51, 2), (0, 1), (77, 77)):
        query = vectors[at] * np.float32(0.9) + vectors[other]
        agree(merged_ids(shards, query, limit), reduced_keys(vectors, query, directory), limit)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.data())
def test_any_shards_are_merged_as_one(make_index: MakeIndex, data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(METRICS), "metric")
    vectors = vectors_of(6, data.draw(st.integers(0, 999), "seed"))[:30]
    shard_of = data.draw(st.lists(st.integers(0, 4), min_size=30, max_size=30), "layout")
    directory = make_index(vectors, metric=metric, n_shards=5, shard_of=shard_of, n_trees=1)
    shards = ShardSet(open_snapshot(directory))
    assert len(shards.readers) == len(set(shard_of))
    limit = data.draw(st.integers(1, 40), "limit")
    query = vectors[limit % 30] + np.float32(0.5)
    agree(merged_ids(shards, query, limit), reduced_keys(vectors, query, directory), limit)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_distances_are_exact_ones_of_stored_vectors(
    make_index: MakeIndex, metric: str, dtype: str
) -> None:
    vectors = vectors_of(150)
    directory = make_index(vectors, metric=metric, n_shards=3, vectors_dtype=dtype)
    shards = ShardSet(open_snapshot(directory))
    random = np.random.default_rng(1)
    owners, rows = random.integers(0, 3, 40), random.integers(0, ROWS // 3, 40)
    stored = np.stack(
        [shards.readers[shard].vectors[row] for shard, row in zip(owners, rows, strict=True)]
    )
    assert stored.dtype == dtype
    np.testing.assert_array_equal(shards.vectors(owners, rows), stored)
    query = vectors[7] + np.float32(0.1)
    measured = shards.distances(query, owners, rows)
    assert measured.tobytes() == distances(query, stored, metric).tobytes()
    ids = [shards.image_id(shard, row) for shard, row in zip(owners, rows, strict=True)]
    assert ids == [f"id{3 * row + shard:06d}" for shard, row in zip(owners, rows, strict=True)]


def test_some_shards_are_searched_by_their_positions(make_index: MakeIndex) -> None:
    vectors = vectors_of(8)
    directory = make_index(vectors, metric="euclidean", n_shards=3)
    some = ShardSet(open_snapshot(directory), [0, 2])
    assert [reader.entry.number for reader in some.readers] == [0, 2]
    numbers = [int(image_id[2:]) for image_id in merged_ids(some, vectors[4], ROWS)]
    keys = reduced_keys(vectors, vectors[4], directory)
    searched = [row for row in range(ROWS) if row % 3 != 1]
    assert sorted(numbers) == searched
    np.testing.assert_allclose(keys[numbers], np.sort(keys[searched]), rtol=1e-5)
    assert some.find("id000005") == (1, 1)
    assert some.find("id000004") is None
    assert some.find("nobody") is None


def test_deleted_rows_are_no_candidates(make_index: MakeIndex) -> None:
    vectors = vectors_of(8)
    directory = make_index(vectors, n_shards=3)
    add_tombstones(directory, {0: [0, 3], 1: range(50)})
    shards = ShardSet(open_snapshot(directory))
    assert [reader.entry.rows for reader in shards.readers] == [50, 50]
    deleted = {"id000000", "id000009", *(f"id{row:06d}" for row in range(1, ROWS, 3))}
    live = {f"id{row:06d}" for row in range(ROWS)} - deleted
    assert set(merged_ids(shards, vectors[0], ROWS)) == live
    assert shards.find("id000009") is None


def test_an_effort_is_divided_by_rows(make_index: MakeIndex) -> None:
    shard_of = np.repeat([0, 1, 2], [100, 49, 1])
    shards = ShardSet(
        open_snapshot(make_index(vectors_of(8), n_shards=3, shard_of=shard_of, n_trees=2))
    )
    effort = Effort(k=1, rerank=10, search_k=300)
    assert [shards.entries(shard, effort) for shard in range(3)] == [200, 98, 2]
    # A group of shards gathers as many entries of each as the whole set does.
    some = ShardSet(open_snapshot(make_index(vectors_of(8), n_shards=3, shard_of=shard_of)), [1])
    assert some.entries(0, effort) == 98
