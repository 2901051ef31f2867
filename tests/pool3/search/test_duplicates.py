from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.index.recall.effort import Effort
from pool3.index.shards.reader import ShardReader
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.search.duplicates import (
    DuplicateSearch,
    check_threshold,
    cluster_id,
    cluster_sheet,
    reduced_reach,
    representatives,
)
from pool3.vectors.distances import distances
from tests.tombstones import add_tombstones


def clumps(n: int, dimension: int = 150, seed: int = 0) -> np.ndarray:
    """Clumps of 1 to 30 rows that are nearly alike, of all lengths."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(n, dimension)) * np.exp(random.uniform(-2, 2, size=(n, 1)))
    chosen = np.repeat(centres, random.integers(1, 31, size=n), axis=0)[:n]
    spread = 0.1 * np.linalg.norm(chosen, axis=1, keepdims=True) / dimension**0.5
    return (chosen + spread * random.normal(size=chosen.shape)).astype(np.float32)


def opened(directory, *, hidden=None, threshold=0.012, most=1000):
    snapshot = open_snapshot(directory)
    numbers = range(len(snapshot.manifest.shards))
    shards = [ShardReader(snapshot.shard(number)) for number in numbers]
    return shards, DuplicateSearch(
        snapshot,
        numbers,
        effort=Effort(10, 100, 1000),
        hidden=hidden or {},
        threshold=threshold,
        most=most,
    )


@pytest.mark.parametrize(("metric", "threshold"), [("angular", 0.012), ("euclidean", 0.9)])
def test_all_rows_within_the_threshold_and_no_others(make_index, metric, threshold):
    directory = make_index(clumps(200), metric=metric, n_shards=3)
    add_tombstones(directory, {1: [5, 6, 7]})
    shards, search = opened(directory, threshold=threshold, hidden={0: np.arange(0, 60, 4)})
    skipped = {(1, 5), (1, 6), (1, 7), *((0, row) for row in range(0, 60, 4))}
    n_close = 0
    for number, shard in enumerate(shards):
        for row in range(0, shard.entry.rows, 3):
            vector = np.asarray(shard.vectors[row], np.float32)
            expected = {
                other.ids.value(at): far
                for place, other in enumerate(shards)
                for at, far in enumerate(distances(vector, other.vectors, metric))
                if far <= threshold and (place, at) not in {*skipped, (number, row)}
            }
            close = search.close_to(vector, (number, row))
            assert close.complete
            assert dict(zip(close.ids, close.distances, strict=True)) == expected
            n_close += len(expected)
    assert n_close > 200  # many rows have more neighbours than the first candidates


def test_a_search_that_reaches_its_limit_says_so(make_index):
    shards, search = opened(make_index(np.tile(clumps(1), (60, 1))), most=20)
    close = search.close_to(np.asarray(shards[0].vectors[0], np.float32), (0, 0))
    assert not close.complete
    assert len(close.ids) in (19, 20)


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
def test_reach_covers_the_rounding_of_stored_rows(make_index, metric):
    vectors = clumps(120)
    directory = make_index(vectors, metric=metric, vectors_dtype="float16")
    snapshot = open_snapshot(directory)
    assert snapshot.manifest.vectors_dtype == "float16"
    shards, _ = opened(directory)
    reduction = snapshot.reduction
    reduced = reduction.reduce(vectors[np.argsort([f"id{row:06d}" for row in range(120)])])
    for row in range(0, 120, 5):
        vector = np.asarray(shards[0].vectors[row], np.float32)
        exact = distances(vector, shards[0].vectors, metric)
        short = np.linalg.norm(reduced - reduction.reduce(vector[None])[0], axis=1)
        length = float(np.linalg.norm(vector))
        for distance, reduced_distance in zip(exact.tolist(), short.tolist(), strict=True):
            assert reduced_distance <= reduced_reach(distance, metric, length)


some_edges = st.sets(
    st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda e: e[0] < e[1])
)


@given(some_edges)
def test_representatives_are_apart_and_near_everything(edges):
    pairs = sorted((f"{first:02d}", f"{second:02d}") for first, second in edges)
    chosen = representatives(iter(pairs))
    assert chosen == sorted(set(chosen))
    assert not [pair for pair in pairs if pair[0] in chosen and pair[1] in chosen]
    for image_id in {image_id for pair in pairs for image_id in pair} - set(chosen):
        represented = any(first in chosen and second == image_id for first, second in pairs)
        # Paired with represented ids before it only: it would be a cluster of one.
        assert represented or all(first != image_id for first, _ in pairs)


def test_cluster_ids_never_change():
    assert cluster_id("s3://lake/a.jpg") == "fab4ea9fe42d7a8ced6fcf63bc76bc47"


@pytest.mark.parametrize(
    ("threshold", "metric", "words"),
    [(0.1, "dot", "dot"), (-0.1, "angular", "-0.1"), (float("nan"), "angular", "nan")],
)
def test_invalid_thresholds_and_metrics_are_refused(threshold, metric, words):
    with pytest.raises(UsageError, match=words):
        check_threshold(threshold, metric)


def test_a_sheet_shows_the_representative_apart(tmp_path):
    from PIL import Image

    Image.new("RGB", (30, 30), (9, 200, 9)).save(tmp_path / "a.png")
    members = [("a", str(tmp_path / "a.png"), 0.0), ("b", str(tmp_path / "gone.png"), 0.01)]
    small, large = cluster_sheet(2, members[:1]), cluster_sheet(7, members * 3)
    assert (9, 200, 9) in {colour for _, colour in small.getcolors(1 << 20)}
    assert large.width > small.width
