from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.vectors import exact
from pool3.vectors.distances import METRICS, distances
from pool3.vectors.exact import exact_nearest

CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n_rows": st.integers(0, 120),
        "dimension": st.integers(1, 40),
        "offset": st.sampled_from([0.0, 1.0, 300.0]),
        "scale": st.sampled_from([1.0, 1e-3, 1e-30, 1e25]),
        "copies": st.sampled_from([1, 3, 40]),
        "dtype": st.sampled_from([np.float16, np.float32]),
    }
)


def drawn(case: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return queries and rows; some rows are equal, some nearly equal, and some far away."""
    rng = np.random.default_rng(case["seed"])
    scale = 1.0 if case["dtype"] is np.float16 else case["scale"]
    rows = rng.normal(size=(case["n_rows"], case["dimension"])) + case["offset"]
    rows = rows[rng.integers(0, max(1, len(rows) // case["copies"]), len(rows))]
    rows += rng.choice([0.0, 1e-3], size=(len(rows), 1)) * rng.normal(size=rows.shape)
    rows *= 10.0 ** rng.integers(-1, 2, (len(rows), 1)) * scale
    queries = (rng.normal(size=(3, case["dimension"])) + case["offset"]) * scale
    queries = np.concatenate([queries, rows[:2]]).astype(np.float32)
    return queries, rows.astype(case["dtype"])


@given(CASES, st.sampled_from(METRICS))
def test_a_bound_is_never_above_the_distance(case, metric):
    queries, rows = drawn(case)
    assume(len(rows))
    bounds = exact._Bounds(queries, rows, metric)
    result = bounds.as_distances(bounds.of(rows).astype(np.float64))
    true = np.array([distances(query, rows, metric) for query in queries]).reshape(result.shape)
    # The distances themselves are right to the last bits of float64.
    assert (result <= true + 1e-12 * np.abs(true)).all()


@given(CASES, st.sampled_from(METRICS), st.integers(1, 30), st.sampled_from([(1, 4), (64, 4096)]))
def test_all_rows_within_the_radius_are_returned_with_exact_distances(case, metric, most, spare):
    queries, rows = drawn(case)
    rng = np.random.default_rng(case["seed"])
    live = rng.random(len(rows)) < 0.8
    own = rng.integers(-1, max(1, len(rows)), len(queries))
    own = np.minimum(own, len(rows) - 1)
    with patch.object(exact, "_BLOCK_ROWS", 16), patch.object(exact, "_SPARE_ROWS", spare):
        result = exact_nearest(queries, rows, metric, most=most, own_rows=own, live=live)
    for at, query in enumerate(queries):
        counted = live.copy()
        if own[at] >= 0:
            counted[own[at]] = False
        true = np.where(counted, distances(query, rows, metric), np.inf)
        known = result.rows[at][result.rows[at] >= 0]
        ascending = np.sort(true)[: len(known)]
        np.testing.assert_array_equal(result.distances[at][: len(known)], ascending)
        np.testing.assert_array_equal(true[known], ascending)
        assert len(set(known.tolist())) == len(known)
        assert np.isinf(result.distances[at][len(known) :]).all()
        assert set(np.flatnonzero(true < result.radius[at])) <= set(known.tolist())
        if counted.sum() <= most:
            assert len(known) == counted.sum()
            assert np.isinf(result.radius[at])
        elif spare[0] > len(rows):
            assert len(known) == most
            assert result.radius[at] == ascending[-1]


@given(CASES, st.sampled_from(METRICS), st.integers(1, 30), st.integers(0, 119))
def test_no_rows_beyond_the_limit_are_returned(case, metric, most, far):
    queries, rows = drawn(case)
    assume(len(rows))
    true = np.array([distances(query, rows, metric) for query in queries]).reshape(-1, len(rows))
    within = np.sort(true, axis=1)[:, far % len(rows)]
    with patch.object(exact, "_BLOCK_ROWS", 16):
        result = exact_nearest(queries, rows, metric, most=most, within=within)
    assert (result.radius <= within).all()
    for at in range(len(queries)):
        known = result.distances[at][result.rows[at] >= 0]
        wanted = np.sort(true[at][true[at] <= within[at]])[:most]
        np.testing.assert_array_equal(known, wanted[: len(known)])
        # All that are nearer than the radius, which falls short only where there are too many.
        assert (true[at] < result.radius[at]).sum() <= len(known)
        assert result.radius[at] == within[at] or len(known) == most


@pytest.mark.parametrize("metric", METRICS)
def test_thousands_of_equal_rows_are_left_out_and_limit_the_radius(metric):
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(60, 8)).astype(np.float32)
    same = np.repeat(rows[:1], 300, axis=0)
    with patch.object(exact, "_SPARE_ROWS", (5, 20)):
        result = exact_nearest(rows[:1], np.concatenate([rows[1:], same]), metric, most=50)
    true = distances(rows[0], np.concatenate([rows[1:], same]), metric)
    if metric == "dot":
        # Where equal rows lie last, only what is nearer is known.
        nearer = int((true < distances(rows[0], same[:1], metric)[0]).sum())
        assert (result.rows[0] >= 0).sum() in range(nearer, 51)
    else:
        # None can be nearer than 0, so that any of them will do.
        assert result.distances[0].tolist() == [0.0] * 50
    assert set(np.flatnonzero(true < result.radius[0])) <= set(result.rows[0].tolist())


def test_real_sizes_need_no_second_pass():
    rng = np.random.default_rng(3)
    rows = np.maximum(rng.normal(size=(6000, 512)) @ rng.normal(size=(512, 512)), 0)
    rows = rows.astype(np.float16)
    queries = rows[:20].astype(np.float32)
    with patch.object(exact, "_SPARE_ROWS", (64,)):
        result = exact_nearest(queries, rows, "angular", most=200, own_rows=np.arange(20))
    assert (result.rows >= 0).all()
    true = np.sort(np.array([distances(query, rows, "angular") for query in queries]), axis=1)
    np.testing.assert_array_equal(result.distances, true[:, 1:201])


def test_another_metric_is_refused():
    with pytest.raises(UsageError, match="metric must be one of"):
        exact_nearest(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float16), "l1", most=1)
