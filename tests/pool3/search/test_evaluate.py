from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.index.snapshots.snapshot import open_snapshot
from pool3.search.evaluate import (
    Estimate,
    TrueDistances,
    average_precision,
    drawn_rows,
    label_scores,
    precision,
    without_own,
)
from tests.tombstones import add_tombstones


def hits(*distances):
    return [(f"id{rank}", distance) for rank, distance in enumerate(distances)]


def test_shares_by_hand():
    true = TrueDistances(
        np.array([[0.1, 0.2, 0.2], [0.0, 0.5, np.inf], [np.inf] * 3, [0.3, 0.4, np.inf]]),
        np.array([0.2, np.inf, np.inf, 0.4]),
    )
    answers = [hits(0.1, 0.2, 0.25), hits(0.5), hits(), hits(0.3, 0.4, 0.4)]
    assert true.recalls(answers, 1) == [1, 0, 1]
    # The second has all rows there are; the last lacks one of its three nearest.
    assert true.recalls(answers, 3) == [2 / 3, 1 / 2]
    assert true.recalls([hits(0.2, 0.2, 0.2), *answers[1:]], 3)[0] == 1  # ties are no errors


def test_negative_distances_have_slack_too():
    true = TrueDistances(np.array([[-3.0]]), np.array([-3.0]))
    assert true.recalls([hits(-3.0 + 1e-12)], 1) == [1]
    assert true.recalls([hits(-2.9)], 1) == [0]


@given(st.integers(0, 100), st.integers(1, 6))
def test_true_distances_of_two_shards_are_merged(seed, width):
    """All are among the nearest, and the radius is how far they are complete."""
    random = np.random.default_rng(seed)
    shards, everything = [], []
    for n_rows in random.integers(0, 9, size=2):
        rows = np.sort(random.integers(0, 6, size=n_rows) / 2.0)
        everything += rows.tolist()
        nearest = np.full(width, np.inf)
        nearest[: min(width, n_rows)] = rows[:width]
        radius = rows[width - 1] if n_rows > width else np.inf
        shards.append(TrueDistances(nearest[None], np.array([radius])))
    both = shards[0].merged(shards[1])
    expected = np.sort(everything)[:width]
    assert both.distances[0][: len(expected)].tolist() == expected.tolist()
    assert np.isinf(both.radius[0]) == (len(everything) <= width)


def test_the_interval_holds_the_mean_and_narrows():
    few, many = Estimate.of([1.0, 0.8]), Estimate.of([1.0, 0.8] * 500)
    assert few.mean == many.mean == pytest.approx(0.9)
    assert few.low < many.low < 0.9 < many.high < few.high
    assert (Estimate.of([1.0] * 10).high, Estimate.of([0.0] * 10).low) == (1.0, 0.0)
    assert Estimate.of([]) is None


def test_own_rows_take_no_place():
    answers = [[("b", 0.0), ("a", 0.0), ("c", 0.1)], [("a", 0.0), ("c", 0.1), ("d", 0.2)]]
    assert without_own(answers, ["a", "x"], 2) == [
        [("b", 0.0), ("c", 0.1)],
        [("a", 0.0), ("c", 0.1)],
    ]


def test_precision_and_average_precision_by_hand():
    assert precision([True, False, True, True], 3) == 2 / 3
    assert precision([True], 3) == 1  # the index has no more
    assert average_precision([True, False, True], 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([True, True], 40) == 1  # no more could be shown
    assert average_precision([False, False], 2) == 0


def test_labels_that_no_other_row_has_are_left_out():
    labels = {"a": "tram", "b": "tram", "c": "bus", "d": None}
    hits_by_k = {1: [[("b", 0.1)], [("a", 0.1)], [("a", 0.2)], [("a", 0.3)]]}
    queries = [("a", "tram"), ("c", "bus"), ("d", None), ("new", "bus")]
    precisions, average = label_scores(queries, hits_by_k, labels, {"tram": 2, "bus": 1})
    assert (precisions[1].mean, precisions[1].queries) == (0.5, 2)
    assert average.mean == 0.5


def test_rows_are_drawn_from_the_live_ones_alone(make_index):
    directory = make_index(np.random.default_rng(0).normal(size=(30, 4)), n_shards=3)
    add_tombstones(directory, {0: range(9), 2: range(2)})
    manifest = open_snapshot(directory).manifest
    assert {shard: len(rows) for shard, rows in drawn_rows(manifest, 99, 1).items()} == {
        0: 1, 1: 10, 2: 8,
    }  # fmt: skip
    some = drawn_rows(manifest, 7, 1)
    assert sum(map(len, some.values())) == 7
    for shard, rows in some.items():
        assert len(set(rows.tolist())) == len(rows)
        assert rows.max() < manifest.shards[shard].live
    again, other = drawn_rows(manifest, 7, 1), drawn_rows(manifest, 7, 2)
    assert {shard: rows.tolist() for shard, rows in again.items()} == {
        shard: rows.tolist() for shard, rows in some.items()
    }
    assert str(other) != str(some)
