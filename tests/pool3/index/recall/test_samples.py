from __future__ import annotations

from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool3.errors import InvalidIndex
from pool3.index.recall import samples as samples_module
from pool3.index.recall.picker import SamplePicker, sample_key
from pool3.index.recall.samples import (
    MAX_NEIGHBOURS,
    Neighbours,
    SampleQueries,
    exact_neighbours,
    merge_neighbours,
    update_samples,
)
from pool3.vectors.distances import METRICS, distances


@dataclass
class Ids:
    ids: list[str]

    def image_id(self, row: int) -> str:
        return self.ids[row]


class Shard:
    """The attributes of a reader that `exact_neighbours` uses."""

    def __init__(self, ids: list[str], vectors: np.ndarray) -> None:
        self.ids = Ids(ids)
        self.vectors = vectors
        self.live = None

    def find(self, image_id: str) -> int | None:
        return self.ids.ids.index(image_id) if image_id in self.ids.ids else None


def rows_of(n_rows: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    # Few different numbers, so that many rows are equally far.
    vectors = rng.integers(1, 4, (n_rows, 3)).astype(np.float32)
    return [f"s3://lake/{seed}/ä{row}.jpg" for row in range(n_rows)], vectors


def cut(n_rows: int, n_shares: int, rng: np.random.Generator) -> list[np.ndarray]:
    return np.array_split(rng.permutation(n_rows), n_shares)


@given(st.integers(0, 60), st.integers(1, 5), st.integers(1, 20), st.integers(0, 99))
def test_a_sample_does_not_depend_on_how_the_table_is_cut(n_rows, n_shares, limit, seed):
    ids, vectors = rows_of(n_rows, seed)
    wanted = sorted(range(n_rows), key=lambda row: sample_key(ids[row]))[:limit]
    whole = SamplePicker(3, limit=limit)
    for rows in cut(n_rows, n_shares, np.random.default_rng(seed)):
        picker = SamplePicker(3, limit=limit)
        for batch in np.array_split(rows, 2):
            picker.add([ids[row] for row in batch], vectors[batch])
        whole.merge(SamplePicker.from_bytes(picker.to_bytes(), limit=limit))
    picked_ids, picked = whole.picked()
    assert picked_ids == [ids[row] for row in wanted]
    np.testing.assert_array_equal(picked, vectors[wanted])


def truth(ids: list[str], vectors: np.ndarray, samples: SampleQueries, metric: str) -> list:
    """Return, for each sample, its distances to all other rows, ascending."""
    by_sample = []
    for image_id, query in zip(samples.ids, samples.queries, strict=True):
        others = [row for row, other in enumerate(ids) if other != image_id]
        by_sample.append(np.sort(distances(query, vectors[others], metric)))
    return by_sample


def agree(samples: SampleQueries, true: list[np.ndarray]) -> None:
    neighbours = samples.neighbours
    for at, all_distances in enumerate(true):
        count = int(neighbours.counts[at])
        np.testing.assert_array_equal(neighbours.distances[at][:count], all_distances[:count])
        assert count >= (all_distances < neighbours.radius[at]).sum()


@settings(max_examples=60)
@given(
    st.integers(2, 40),
    st.integers(0, 30),
    st.integers(1, 4),
    st.sampled_from(METRICS),
    st.integers(0, 999),
)
def test_lists_stay_exact_while_rows_come_and_go(n_rows, n_added, n_shards, metric, seed):
    rng = np.random.default_rng(seed)
    ids, vectors = rows_of(n_rows, 1)
    picker = SamplePicker(3, limit=5)
    picker.add(ids, vectors)
    picked, queries = picker.picked()
    with patch.object(samples_module, "MAX_NEIGHBOURS", 8):
        by_shard = [
            exact_neighbours(Shard([ids[r] for r in rows], vectors[rows]), picked, queries, metric)
            for rows in cut(n_rows, n_shards, rng)
        ]
        passed_on = [Neighbours.from_bytes(neighbours.to_bytes()) for neighbours in by_shard]
        samples = SampleQueries(tuple(picked), queries, merge_neighbours(passed_on))
        agree(samples, truth(ids, vectors, samples, metric))
        for k in range(1, 9):
            assert samples.complete_for(k).all()

        deleted = {image_id for image_id in ids if rng.random() < 0.3}
        # Some of them come back with another vector, as changed pictures do.
        again = [image_id for image_id in sorted(deleted) if rng.random() < 0.5]
        new_ids, new_vectors = rows_of(n_added, 2)
        _, other_vectors = rows_of(len(again), 3)
        added_ids, added = again + new_ids, np.concatenate([other_vectors, new_vectors])
        neighbours = exact_neighbours(Shard(added_ids, added), picked, queries, metric)
        later = update_samples(samples, [neighbours], deleted)
        stay = [row for row, image_id in enumerate(ids) if image_id not in deleted]
        ids_now = [ids[row] for row in stay] + added_ids
        true = truth(ids_now, np.concatenate([vectors[stay], added]), later, metric)
        agree(later, true)
        if n_rows <= 9:  # all other rows were in the list
            assert later.neighbours.counts.tolist() == [min(8, len(others)) for others in true]
        read = SampleQueries.from_bytes(later.to_bytes())
        assert read.ids == later.ids
        for name, array in later.neighbours.tensors().items():
            np.testing.assert_array_equal(read.neighbours.tensors()[name], array)


def test_forgotten_pictures_leave_the_samples():
    ids, vectors = rows_of(30)
    samples = SampleQueries(
        tuple(ids[:4]),
        vectors[:4],
        merge_neighbours(
            [exact_neighbours(Shard(ids, vectors), ids[:4], vectors[:4], "euclidean")]
        ),
    )
    remaining = samples.without({ids[1], ids[9]})
    assert remaining.ids == (ids[0], ids[2], ids[3])
    np.testing.assert_array_equal(remaining.queries, vectors[[0, 2, 3]])
    for image_id in (ids[1], ids[9]):
        assert sample_key(image_id) in samples.neighbours.keys
        assert sample_key(image_id) not in remaining.neighbours.keys
        assert image_id.encode() not in remaining.to_bytes()
    assert remaining.neighbours.counts.tolist() == [27, 27, 27]


def test_other_files_are_refused():
    with pytest.raises(InvalidIndex, match="expected sample queries; found"):
        SampleQueries.from_bytes(b"something else")
    with pytest.raises(InvalidIndex, match="expected sample queries; found"):
        SampleQueries.from_bytes(SamplePicker(2).to_bytes())
    nothing = Neighbours(
        np.zeros((0, MAX_NEIGHBOURS), np.uint64), np.zeros((0, MAX_NEIGHBOURS)), np.zeros(0)
    )
    short = SampleQueries(("a",), np.zeros((1, 2), np.float32), nothing)
    with pytest.raises(InvalidIndex, match=r"1 sample queries must have neighbours of shape"):
        SampleQueries.from_bytes(short.to_bytes())
