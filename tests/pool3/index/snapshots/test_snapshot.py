"""An open snapshot: it travels to other processes, and leads to the files of its shards."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pool3.errors import InvalidIndex
from pool3.index.format.entries import IDS, TREE, VECTORS, ShardEntry
from pool3.index.shards.reader import ShardReader
from pool3.index.snapshots.snapshot import Snapshot, open_snapshot
from pool3.search.fan_out import FanOut
from pool3.search.request import SearchRequests
from tests.conftest import upload
from tests.tombstones import add_tombstones

ROWS = 60
FEATURES = np.random.default_rng(3).normal(size=(ROWS, 140)).astype(np.float32)


@pytest.fixture
def root(make_index: Callable[..., Path]) -> Path:
    """An index of three shards with PCA and metadata."""
    metadata = pa.table({"width": list(range(ROWS))})
    return make_index(FEATURES, metric="dot", n_shards=3, metadata=metadata)


def answers(snapshot: Snapshot) -> list[list[tuple[str, float]]]:
    fan_out = FanOut(snapshot)
    request = SearchRequests(snapshot, fan_out.selections).make(5, {"where": "width > 3"})
    return [
        [
            (neighbour.image_id, neighbour.distance)
            for neighbour in fan_out.nearest(query, request.effort, request.selection)
        ]
        for query in FEATURES[::7]
    ]


def test_a_pickled_snapshot_gives_the_same_answers(root: Path) -> None:
    snapshot = open_snapshot(root)
    data = pickle.dumps(snapshot)
    copy = pickle.loads(data)
    assert (copy.uri, copy.manifest) == (str(root), snapshot.manifest)
    np.testing.assert_array_equal(copy.reduction.components, snapshot.reduction.components)
    assert answers(copy) == answers(snapshot)
    # Of the vectors it has none: every task gets it.
    assert len(data) < FEATURES.nbytes + snapshot.reduction.components.nbytes
    assert FEATURES[0].tobytes() not in data


def test_a_searched_snapshot_can_still_be_pickled(root: Path) -> None:
    snapshot = open_snapshot(root)
    expected = answers(snapshot)
    assert answers(pickle.loads(pickle.dumps(snapshot))) == expected


def test_a_pickled_snapshot_keeps_the_limit_of_its_cache(
    root: Path, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL3_CACHE_DIR", str(tmp_path / "cache"))
    upload(root, f"{s3_bucket}/index")
    whole = open_snapshot(f"{s3_bucket}/index")
    limit = whole.files.required_bytes + whole.files.vector_bytes - 1
    limited = open_snapshot(f"{s3_bucket}/index", cache_max_bytes=limit)
    copy = pickle.loads(pickle.dumps(limited))
    assert (whole.files.ranged, limited.files.ranged, copy.files.ranged) == (False, True, True)
    assert answers(copy) == answers(open_snapshot(root))


def test_shards_without_live_rows_are_not_searched(root: Path) -> None:
    add_tombstones(root, {1: range(5)})
    snapshot = open_snapshot(root)
    assert snapshot.searchable == [0, 1, 2]
    first, second, third = snapshot.manifest.shards
    deleted = replace(second, dead=second.rows)
    empty = ShardEntry(number=3, rows=0, seed=1, max_norm=0.0, files={})
    manifest = replace(snapshot.manifest, shards=(first, deleted, third, empty))
    assert Snapshot.of(snapshot.uri, manifest, snapshot.reduction).searchable == [0, 2]


def test_a_shard_leads_to_its_files(root: Path) -> None:
    snapshot = open_snapshot(root)
    shard = snapshot.shard(2)
    assert shard.entry == snapshot.manifest.shards[2]
    assert shard.uri(TREE) == f"{root}/{shard.entry.files[TREE].path}"
    with shard.pin(IDS) as pinned:
        ids = pa.ipc.open_file(str(pinned.path)).read_all().column("image_id").to_pylist()
    assert ids == [f"id{row:06d}" for row in range(2, ROWS, 3)]


def test_a_file_must_be_what_the_manifest_states(root: Path) -> None:
    shard = open_snapshot(root).shard(0)
    shard.require(VECTORS, "rows", 20, 20)
    message = rf"{shard.uri(VECTORS)} must have rows 20, as the manifest states; found 21"
    with pytest.raises(InvalidIndex, match=message):
        shard.require(VECTORS, "rows", 20, 21)


def test_a_snapshot_whose_manifest_is_not_written_yet_opens_its_shards(root: Path) -> None:
    published = open_snapshot(root)
    manifest = replace(published.manifest, snapshot_id=2, parent=1)
    upcoming = Snapshot.of(published.uri, manifest, published.reduction)
    assert len(ShardReader(upcoming.shard(0)).ids) == 20
    (root / published.manifest.shards[0].files[TREE].path).unlink()
    with pytest.raises(InvalidIndex, match=r"tree\.ann"):
        ShardReader(published.shard(0))
