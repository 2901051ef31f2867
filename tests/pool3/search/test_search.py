from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pool3
import pool3.search.pictures
from pool3.errors import UsageError
from pool3.index.format.entries import ShardEntry
from pool3.vectors.distances import METRICS, distances
from tests.small_index import open_with

EXHAUSTIVE = 10**9


def vectors_of(
    n_rows: int, dimension: int, seed: int = 0, *, varying: bool = True, duplicates: bool = True
) -> np.ndarray:
    """Vectors of very different lengths, some of them twice."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, dimension))
    if varying:
        rows *= 10 ** rng.uniform(-2, 2, (n_rows, 1))
    if duplicates and n_rows > 3:
        rows[n_rows // 2 :: 3] = rows[0]
    return rows.astype(np.float32)


def ids_of(n_rows: int, seed: int = 0) -> list[str]:
    """Ids whose order is not that of the rows, some beyond the basic plane."""
    rng = np.random.default_rng(seed)
    signs = ["", "é", "\N{GRINNING FACE}", "\uffee"]
    return [f"{signs[rng.integers(4)]}{n:05d}" for n in rng.permutation(n_rows)]


def stored(index) -> tuple[list[str], np.ndarray]:
    """All ids and stored vectors of an index."""
    ids = [
        shard.ids.value(row)
        for shard in index._fan_out.shards.readers
        for row in range(len(shard.ids))
    ]
    return ids, np.concatenate([shard.vectors for shard in index._fan_out.shards.readers])


def brute_force(ids, vectors, query, metric, k):
    measured = distances(query, vectors, metric)
    return sorted(zip(measured.tolist(), ids, strict=True))[:k]


def exhaustive(index, query, k):
    hits = index.search(query, k=k, search_k=EXHAUSTIVE, rerank=max(k, len(index)))
    return list(zip(hits.distances.tolist(), hits.ids, strict=True))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimension", [5, 150])
def test_sharding_changes_nothing(make_index, metric, dimension):
    vectors, ids = vectors_of(61, dimension), ids_of(61)
    layouts = {
        1: None,
        3: None,
        # Two shards without rows, and most of the others with fewer than k.
        7: np.repeat(np.arange(7), [0, 1, 2, 3, 4, 0, 51]),
    }
    options = {"metric": metric, "ids": ids, "vectors_dtype": "float32"}
    indexes = [
        pool3.open(make_index(vectors, n_shards=n, shard_of=shards, **options))
        for n, shards in layouts.items()
    ]
    assert [entry.rows for entry in indexes[2].manifest.shards] == [0, 1, 2, 3, 4, 0, 51]
    for k in (1, 4, 10, 61, 100):
        for query in (vectors[0], vectors[7], -vectors[9], vectors[40] * np.float32(1.5)):
            answers = [exhaustive(index, query, k) for index in indexes]
            assert answers[0] == answers[1] == answers[2]
            assert answers[0] == brute_force(*stored(indexes[0]), query, metric, k)
            assert len(answers[0]) == min(k, 61)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_index_gives_the_brute_force_answer(make_index, data):
    n_rows = data.draw(st.integers(1, 40), "rows")
    n_shards = data.draw(st.integers(1, 5), "shards")
    metric = data.draw(st.sampled_from(METRICS), "metric")
    seed = data.draw(st.integers(0, 1000), "seed")
    vectors = vectors_of(n_rows, data.draw(st.sampled_from([1, 3, 131]), "dimension"), seed)
    index = pool3.open(
        make_index(
            vectors,
            ids=ids_of(n_rows, seed),
            metric=metric,
            n_shards=n_shards,
            n_trees=data.draw(st.integers(1, 4), "trees"),
            shard_of=data.draw(
                st.lists(st.integers(0, n_shards - 1), min_size=n_rows, max_size=n_rows), "layout"
            ),
        )
    )
    k = data.draw(st.integers(1, 50), "k")
    query = vectors[seed % n_rows] if seed % 2 else vectors_of(1, vectors.shape[1], seed + 1)[0]
    expected = brute_force(*stored(index), query, metric, k)
    assert exhaustive(index, query, k) == expected
    # At the smallest effort too: never fewer than there are, never made up, never twice.
    hits = index.search(query, k=k, search_k=1, rerank=k)
    assert len(hits) == len(set(hits.ids)) == min(k, n_rows)
    true = {image_id: far for far, image_id in brute_force(*stored(index), query, metric, 99)}
    assert [true[image_id] for image_id in hits.ids] == hits.distances.tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_shards_of_very_different_lengths_are_merged_rightly(make_index, metric):
    """Without any effort to spare, what the merge lets through must be the nearest already."""
    vectors = vectors_of(80, 20, varying=False, duplicates=False)
    vectors[:40] *= np.float32(10)
    directory = make_index(vectors, metric=metric, n_shards=2, shard_of=[0] * 40 + [1] * 40)
    index = pool3.open(directory)
    for query in vectors[::9]:
        hits = index.search(query, k=15, search_k=EXHAUSTIVE, rerank=15)
        expected = brute_force(*stored(index), query, metric, 15)
        assert hits.ids == [image_id for _, image_id in expected]


@pytest.mark.parametrize("metric", METRICS)
def test_defaults_find_nearly_all(make_index, metric):
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(40, 300)) * 2
    vectors = (centres[rng.integers(0, 40, 3000)] + rng.normal(size=(3000, 300))).astype(np.float32)
    index = pool3.open(make_index(vectors, metric=metric, n_shards=3, n_trees=20))
    ids, measured = index.search_batch(vectors[:50], k=10)
    truth = stored(index)
    recalls = [
        np.mean(row <= brute_force(*truth, query, metric, 10)[-1][0] + 1e-9)
        for query, row in zip(vectors[:50], measured, strict=True)
    ]
    assert np.mean(recalls) > 0.9
    assert ids.shape == (50, 10)


@pytest.mark.parametrize(
    ("metric", "answers"), [("angular", "gt100_angular"), ("euclidean", "gt100_l2_u64")]
)
def test_real_vectors_with_known_neighbours(make_index, shared_data, metric, answers):
    folder = shared_data / "vectors_bigann10k"
    base, queries = np.load(folder / "base_u8.npy"), np.load(folder / "query_u8.npy")
    truth = np.load(folder / f"{answers}.npy").astype(np.int64)
    index = pool3.open(make_index(base, metric=metric, n_shards=3, n_trees=5))
    assert index.manifest.vectors_dtype == "float16"  # whole numbers up to 255 are exact
    k = 100
    _, measured = index.search_batch(queries, k=k, search_k=EXHAUSTIVE, rerank=len(base))
    for row, query, neighbours in zip(measured, queries, truth, strict=True):
        farthest = distances(query, base[neighbours[:k]], metric).max()
        assert (row <= farthest + 1e-9).all()


@pytest.mark.parametrize("dimension", [20, 300])
def test_batch_and_single_searches_agree(make_index, dimension):
    vectors = vectors_of(200, dimension)
    index = pool3.open(make_index(vectors, n_shards=3))
    ids, measured = index.search_batch(vectors[:20], k=7)
    for row in range(20):
        hits = index.search(vectors[row], k=7)
        assert ids[row].tolist() == hits.ids
        assert measured[row].tolist() == hits.distances.tolist()
        again = index.search_vector(vectors[row].astype(np.float64), k=7)
        assert (again.ids, again.snapshot_id) == (hits.ids, 1)
    wide, _ = index.search_batch(vectors[:2], k=500)
    assert wide.shape == (2, 200)
    none, distance = index.search_batch(vectors[:0], k=3)
    assert none.shape == distance.shape == (0, 3)


def test_search_by_id_finds_itself_first(make_index):
    vectors = vectors_of(90, 30, duplicates=False)
    ids = ids_of(90)
    for metric in ("angular", "euclidean"):
        index = pool3.open(make_index(vectors, ids=ids, metric=metric, n_shards=4))
        for image_id in ids:
            hits = index.search_id(image_id, k=3)
            assert (hits.ids[0], hits.distances[0]) == (image_id, 0.0)
            assert index.search(image_id=image_id, k=3).ids == hits.ids
        with pytest.raises(UsageError, match=r"no picture 'nobody' in .*, snapshot 1"):
            index.search_id("nobody")
        with pytest.raises(UsageError, match="must be a string; found 3"):
            index.search(image_id=3)


def test_an_index_without_rows_finds_nothing(make_index):
    full = pool3.open(make_index(np.eye(3)))
    empty = ShardEntry(number=0, rows=0, seed=1, max_norm=0.0, files={})
    index = open_with(full.uri, replace(full.manifest, rows=0, shards=(empty,)))
    assert index.search(np.ones(3), k=5).ids == []
    assert index.search(np.ones(3)).to_pandas().empty
    ids, measured = index.search_batch(np.ones((2, 3)))
    assert ids.shape == measured.shape == (2, 0)


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", True, None])
def test_k_is_checked(make_index, k):
    index = pool3.open(make_index(np.eye(3)))
    for call in (index.search, index.search_vector, index.search_batch):
        with pytest.raises(UsageError, match="k must be a whole number of at least 1; found"):
            call(np.eye(3) if call == index.search_batch else np.ones(3), k=k)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (np.ones(4), "must have 3 numbers, as those of .*; found 4"),
        (np.array([1.0, np.nan, 0.0]), "must be finite as float32; found NaN or infinity"),
        (np.array([1.0, 1e300, 0.0]), "must be finite as float32"),
        (np.zeros(3), "must not be zero under angular"),
        (np.array(["a", "b", "c"]), "of real numbers; found <U1"),
        (np.ones((2, 3)), r"found an array of float64 of shape \(2, 3\)"),
        (np.ones((4, 4), dtype=np.uint8), "a query must be a path"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "a query must be a path"),
        (3.5, "a query must be a path.*found float"),
        ([1.0, 2.0, 3.0], "a query must be a path.*found float"),
    ],
)
def test_invalid_queries_are_refused(make_index, query, message):
    index = pool3.open(make_index(np.eye(3)))
    with pytest.raises(UsageError, match=message):
        index.search(query)


def test_arguments_that_contradict_each_other(make_index):
    index = pool3.open(make_index(np.eye(3)))
    with pytest.raises(UsageError, match="either a query or an image_id"):
        index.search()
    with pytest.raises(UsageError, match="either a query or an image_id"):
        index.search(np.ones(3), image_id="id000000")
    with pytest.raises(UsageError, match="rerank must be at least k = 5; found 4"):
        index.search(np.ones(3), k=5, rerank=4)
    with pytest.raises(UsageError, match="search_k must be a whole number"):
        index.search(np.ones(3), search_k=0)
    with pytest.raises(UsageError, match=r"takes an array \(n, d\); found shape \(3,\)"):
        index.search_batch(np.ones(3))
    with pytest.raises(UsageError, match="search_bytes takes bytes; found str"):
        index.search_bytes("/etc/passwd")


def test_zero_queries_are_fine_elsewhere(make_index):
    for metric in ("euclidean", "dot"):
        index = pool3.open(make_index(np.eye(3), metric=metric))
        assert len(index.search(np.zeros(3), k=2)) == 2
