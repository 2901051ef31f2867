from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.vectors.bounded import nearest
from pool3.vectors.distances import METRICS, distances


@pytest.fixture(scope="module", autouse=True)
def few_rows_are_passed_over_too():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pool3.vectors.bounded._FEW_ROWS", 0)
        yield


KINDS = ["far apart", "alike", "the same", "very long", "very short", "sparse"]


def drawn(kind: str, n_rows: int, dimension: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A query and rows with nearly equal distances, or close to the limits of float16."""
    rng = np.random.default_rng(seed)
    query, rows = rng.normal(size=dimension), rng.normal(size=(n_rows, dimension))
    match kind:
        case "alike":
            rows = query + rows * 10.0 ** rng.uniform(-6, -1, (n_rows, 1))
        case "the same":
            rows[:] = rows[rng.integers(0, min(2, n_rows), n_rows)]
        case "very long":
            rows *= 10.0 ** rng.uniform(2, 5, (n_rows, 1))
            query *= 1e6
        case "very short":
            rows *= 10.0 ** rng.uniform(-9, -2, (n_rows, 1))
            query *= 1e-5
        case "sparse":
            rows, query = np.maximum(rows - 1, 0), np.maximum(query, 0)
    rows[:, 0] += rows[:, 0] == 0
    return query.astype(np.float32), np.clip(rows, -6e4, 6e4)


@settings(max_examples=300)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(METRICS),
    st.sampled_from([np.float16, np.float32]),
    st.integers(1, 60),
    st.sampled_from([1, 2, 7, 64, 300, 2048]),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
)
@example("alike", "angular", np.float16, 60, 2048, 3, 7)
def test_the_nearest_rows_are_always_included(kind, metric, dtype, n_rows, dimension, k, seed):
    query, rows = drawn(kind, n_rows, dimension, seed)
    rows = rows.astype(dtype)
    if metric == "angular":
        rows[~rows.any(axis=1)] = 1
        query[0] += not query.any()
    true = distances(query, rows, metric)
    positions, result = nearest(query, rows, metric, k)
    assert result.tobytes() == true[positions].tobytes()
    assert (np.diff(positions) > 0).all()
    needed = np.flatnonzero(true <= np.sort(true)[min(k, n_rows) - 1])
    assert set(needed.tolist()) <= set(positions.tolist())


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("metric", METRICS)
def test_few_rows_are_measured(metric, dtype):
    rng = np.random.default_rng(0)
    rows = np.maximum(rng.normal(size=(400, 2048)) + rng.normal(size=(400, 1)), 0).astype(dtype)
    for query in rows[:20].astype(np.float32):
        positions, _ = nearest(query, rows, metric, 10)
        assert 10 <= len(positions) <= 20


def test_rows_whose_bounds_overflow_are_measured():
    rows = np.array([[6e4, 1], [-6e4, 2], [5e4, 3], [1, 1]], np.float16)
    query = np.array([1e30, 1.0], np.float32)
    for metric in METRICS:
        true = distances(query, rows, metric)
        positions, _ = nearest(query, rows, metric, 2)
        assert set(np.argsort(true, kind="stable")[:2]) <= set(positions)


def test_another_metric_is_refused():
    with pytest.raises(UsageError, match="metric must be one of"):
        nearest(np.ones(2, np.float32), np.ones((3, 2), np.float16), "cosine", 1)
