"""Groups of shards, searched apart and merged, give the answers of the open index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pool3
from pool3.index.recall.effort import Effort, choose_effort
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.search.group import (
    GroupAnswer,
    GroupSearch,
    merge_answers,
    possible_winners,
    shard_groups,
)
from tests.tombstones import add_tombstones


def vectors_with_ties(n: int, dimension: int = 200, seed: int = 3) -> np.ndarray:
    """Clusters of more dimensions than PCA keeps, and each row twice, so that ids decide."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(6, dimension))
    half = centres[random.integers(6, size=n // 2)] + 0.4 * random.normal(size=(n // 2, dimension))
    return np.repeat(half, 2, axis=0).astype(np.float32)


def answers(directory, queries, groups, **options):
    snapshot = open_snapshot(directory)
    effort = choose_effort(snapshot.manifest, **options)
    searches = [GroupSearch(snapshot, group) for group in groups]
    return [
        merge_answers([search.find(query, effort) for search in searches], effort)
        for query in queries
    ]


@pytest.mark.parametrize("metric", ["angular", "euclidean", "dot"])
def test_any_grouping_answers_as_the_open_index(make_index, metric):
    vectors = vectors_with_ties(600)
    directory = make_index(vectors, metric=metric, n_shards=4, n_trees=3)
    queries = vectors[::97] + np.float32(0.01)
    index = pool3.open(directory)
    for options in ({"k": 10}, {"k": 3, "rerank": 5, "search_k": 60}, {"k": 200}):
        ids, distances = index.search_batch(queries, **options)
        for groups in ([[0, 1, 2, 3]], [[0, 1], [2], [3]]):
            merged = answers(directory, queries, groups, **options)
            assert [[image_id for image_id, _ in hits] for hits in merged] == ids.tolist()
            assert [[distance for _, distance in hits] for hits in merged] == distances.tolist()


def test_deleted_rows_are_no_hits_and_k_hits_come_back(make_index):
    vectors = vectors_with_ties(900)
    directory = make_index(vectors, n_shards=3, n_trees=3)
    add_tombstones(directory, {0: range(290), 1: range(270), 2: range(10, 300)})
    options = {"k": 40, "rerank": 41, "search_k": 1}
    merged = answers(directory, vectors[:90:10], [[0], [1, 2]], **options)
    ids, _ = pool3.open(directory).search_batch(vectors[:90:10], **options)
    assert [[image_id for image_id, _ in hits] for hits in merged] == ids.tolist()
    assert all(len(hits) == 40 for hits in merged)


def test_shards_are_grouped_in_order_within_the_limit(make_index):
    directory = make_index(vectors_with_ties(80), n_shards=4)
    manifest = open_snapshot(directory).manifest
    size = max(sum(file.bytes for file in entry.files.values()) for entry in manifest.shards)
    assert shard_groups(manifest, 10**9) == [[0, 1, 2, 3]]
    assert shard_groups(manifest, 2 * size) == [[0, 1], [2, 3]]
    assert shard_groups(manifest, 1) == [[0], [1], [2], [3]]
    add_tombstones(directory, {1: range(20)})
    assert shard_groups(open_snapshot(directory).manifest, 1) == [[0], [1], [2]]


few_distances = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]), min_size=0, max_size=12)


@given(st.lists(few_distances, min_size=1, max_size=4), st.integers(1, 5), st.integers(0, 9))
def test_what_a_group_leaves_out_is_never_a_hit(measured, k, more):
    """Against merging every candidate; keys and distances are full of ties."""
    effort = Effort(k, k + more, 1)
    keys = [np.sort(np.arange(len(group)) // 2 * 1.0) for group in measured]
    everything, possible = [], []
    for number, distances in enumerate(measured):
        ids = [f"{(7 * number + 5 * row) % 11}-{number}-{row}" for row in range(len(distances))]
        exact = np.array(distances)
        positions = possible_winners(exact, k)
        rows = np.arange(len(exact), dtype=np.int32)
        everything.append(GroupAnswer(keys[number], rows, exact, ids))
        possible.append(
            GroupAnswer(keys[number], positions, exact[positions], [ids[at] for at in positions])
        )
    assert merge_answers(possible, effort) == merge_answers(everything, effort)
