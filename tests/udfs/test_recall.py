"""Sample queries of an index: which rows are picked, and their exact neighbours in each shard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pool3 import storage
from pool3.index.recall.evidence import Evidence
from pool3.index.recall.measure import with_levels
from pool3.index.recall.picker import MOST_SAMPLES, SamplePicker, sample_key
from pool3.index.recall.samples import Neighbours
from pool3.index.snapshots.snapshot import Snapshot
from tests.udfs.arrow import Broadcast, grouped, shard_batches, summaries
from tests.udfs.small_data import DIMENSION, ROWS, SHARDS, SmallIndex
from udfs.recall import SampleSearch, pick_stored, search_samples


def search_of(index: SmallIndex, within: np.ndarray | None) -> SampleSearch:
    """Return a search with rows of the index, one of which has a tombstone, and one other query."""
    snapshot = grouped(index.directory).value.snapshot
    manifest = with_levels(snapshot.manifest, remeasure=True)
    numbers = [5, 100, 200]
    ids = [*(index.ids[number] for number in numbers), "not a row"]
    queries = np.concatenate([index.vectors[numbers], np.ones((1, DIMENSION), np.float32)])
    return SampleSearch(
        snapshot=Snapshot.of(snapshot.uri, manifest, snapshot.reduction),
        ids=ids,
        queries=queries,
        within=within,
    )


def test_each_shard_has_the_exact_neighbours_of_all_samples(any_index: SmallIndex) -> None:
    index = any_index
    search = search_of(index, None)
    snapshot = grouped(index.directory).value
    tasks = summaries(search_samples(Broadcast(search)), shard_batches(snapshot))
    assert sorted(task["number"] for task in tasks) == list(range(SHARDS))
    for task in tasks:
        neighbours = Neighbours.from_bytes(task["payload"])
        in_shard = (np.arange(ROWS) % SHARDS == task["number"]) & index.live
        for at, (image_id, query) in enumerate(zip(search.ids, search.queries, strict=True)):
            others = in_shard & (np.array(index.ids) != image_id)
            expected = np.sort(index.distances(query)[others])
            assert neighbours.counts[at] == len(expected)
            np.testing.assert_allclose(
                neighbours.distances[at, : len(expected)], expected, rtol=1e-5, atol=1e-6
            )
            keys = {sample_key(name) for name in np.array(index.ids)[others].tolist()}
            assert set(neighbours.keys[at, : len(expected)].tolist()) == keys
        file = task["file"]
        data = storage.fetch(storage.join(str(index.directory), file["path"]))
        assert len(data) == file["bytes"]
        assert Evidence.from_bytes(data) is not None


def test_neighbours_beyond_the_limit_are_left_out(euclidean_index: SmallIndex) -> None:
    within = np.array([10.0, 60.0, 0.5, 70.0])
    search = search_of(euclidean_index, within)
    snapshot = grouped(euclidean_index.directory).value
    for task in summaries(search_samples(Broadcast(search)), shard_batches(snapshot)):
        neighbours = Neighbours.from_bytes(task["payload"])
        in_shard = (np.arange(ROWS) % SHARDS == task["number"]) & euclidean_index.live
        for at, (image_id, query) in enumerate(zip(search.ids, search.queries, strict=True)):
            others = in_shard & (np.array(euclidean_index.ids) != image_id)
            close = euclidean_index.distances(query)[others] <= within[at]
            assert neighbours.counts[at] == close.sum()


def test_the_sample_is_of_live_rows_and_does_not_depend_on_tasks(any_index: SmallIndex) -> None:
    index = any_index
    snapshot = grouped(index.directory).value
    function = pick_stored(str(index.directory), DIMENSION)
    entries = snapshot.snapshot.manifest.shards
    merged = SamplePicker(DIMENSION)
    for chosen in (entries[2:], entries[:2]):
        manifest = replace(snapshot.snapshot.manifest, shards=chosen)
        some = replace(snapshot, snapshot=replace(snapshot.snapshot, manifest=manifest))
        (task,) = summaries(function, shard_batches(some))
        merged.merge(SamplePicker.from_bytes(task["payload"]))
    ids, vectors = merged.picked()
    assert len(ids) <= MOST_SAMPLES
    assert ids == sorted(index.live_ids(), key=sample_key)
    expected = np.stack([index.vectors[index.ids.index(name)] for name in ids])
    if index.metric == "angular":  # stored rows have another length
        expected = expected / np.abs(expected).max(axis=1, keepdims=True)
        vectors = vectors / np.abs(vectors).max(axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
