from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.vectors.distances import METRICS, check_metric, distances, top_k

SHAPES = st.tuples(st.integers(1, 200), st.integers(1, 300), st.integers(0, 2**32 - 1))


def drawn(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    n_rows, dimension, seed = shape
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-3, 3, (n_rows, 1))
    rows = (rng.normal(size=(n_rows, dimension)) * scale).astype(np.float32)
    return rng.normal(size=dimension).astype(np.float32), rows


@given(SHAPES)
def test_distances_are_those_of_their_definitions(shape):
    query, rows = drawn(shape)
    q, x = query.astype(np.float64), rows.astype(np.float64)
    cosine = (x @ q) / np.linalg.norm(x, axis=1) / np.linalg.norm(q)
    size = np.abs(x).max() + 1
    np.testing.assert_allclose(distances(query, rows, "angular"), 1 - cosine, atol=1e-12)
    np.testing.assert_allclose(
        distances(query, rows, "euclidean"), np.linalg.norm(x - q, axis=1), rtol=1e-12
    )
    np.testing.assert_allclose(distances(query, rows, "dot"), -(x @ q), atol=1e-9 * size)


@given(SHAPES, st.sampled_from(METRICS), st.sampled_from([np.float16, np.float32]))
def test_a_row_does_not_depend_on_its_neighbours(shape, metric, dtype):
    query, rows = drawn(shape)
    rows = np.clip(rows, -6e4, 6e4).astype(dtype)
    together = distances(query, rows, metric)
    alone = np.concatenate([distances(query, rows[i : i + 1], metric) for i in range(len(rows))])
    backwards = distances(query, rows[::-1], metric)[::-1]
    assert together.tobytes() == alone.tobytes() == np.ascontiguousarray(backwards).tobytes()


def test_blocks_change_nothing():
    rows = np.random.default_rng(0).normal(size=(2500, 33)).astype(np.float32)
    whole = distances(rows[7], rows, "euclidean")
    parts = [distances(rows[7], rows[i : i + 100], "euclidean") for i in range(0, 2500, 100)]
    assert whole.tobytes() == np.concatenate(parts).tobytes()


@given(SHAPES)
def test_equal_vectors_are_exactly_zero_apart(shape):
    _, rows = drawn(shape)
    for row in rows:
        assert distances(row, row[None], "angular")[0] == 0
        assert distances(row, row[None], "euclidean")[0] == 0


def test_near_duplicates_keep_their_digits_under_angular():
    query = np.array([1.0, 0.0])
    turned = np.array([[np.cos(1e-7), np.sin(1e-7)]])
    # 1 - cos(t) is t^2/2; computed as 1 - cosine it would have no right digit.
    assert distances(query, turned, "angular")[0] == pytest.approx(0.5e-14, rel=1e-6)


def test_no_negative_zero_under_dot():
    assert not np.signbit(distances(np.array([1.0, 0.0]), np.array([[0.0, 1.0]]), "dot"))[0]


@pytest.mark.parametrize("metric", METRICS)
def test_every_float16_counts_as_what_it_is(metric):
    rows = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    assert len(rows) > 900
    query = np.ones(64)
    wide = distances(query, rows.astype(np.float64), metric)
    assert distances(query, rows, metric).tobytes() == wide.tobytes()
    big_endian = rows.astype(">f2")
    assert distances(query, big_endian, metric).tobytes() == wide.tobytes()


def test_no_rows():
    assert distances(np.ones(3), np.zeros((0, 3)), "angular").shape == (0,)


def test_another_metric_is_refused():
    with pytest.raises(UsageError, match="angular, euclidean, dot; found 'cosine'"):
        check_metric("cosine")


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 35), st.randoms())
def test_top_k_is_a_sort_by_distance_then_id(values, k, random):
    ids = [f"{i:02d}" for i in range(len(values))]
    random.shuffle(ids)
    result = top_k(np.array(values, dtype=np.float64), k, ids.__getitem__)
    expected = sorted(zip(values, ids, range(len(values)), strict=True))[:k]
    assert result == [(image_id, position) for _, image_id, position in expected]
