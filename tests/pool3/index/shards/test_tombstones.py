"""Tombstones of shards: added, read, and checked alike wherever they are read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pool3.errors import InvalidIndex
from pool3.index.format.entries import TOMBSTONES, FileEntry, ShardEntry
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.tombstones import (
    add_tombstones,
    add_tombstones_all,
    deleted_rows,
    live_mask,
    renumbered,
)
from pool3.index.snapshots.snapshot import Snapshot, open_snapshot

VECTORS = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)


@pytest.fixture
def snapshot(make_index: Callable[..., Path]) -> Snapshot:
    """Two shards of six rows."""
    return open_snapshot(make_index(VECTORS, n_shards=2))


def with_entry(snapshot: Snapshot, entry: ShardEntry) -> Snapshot:
    shards = (entry, *snapshot.manifest.shards[1:])
    return Snapshot.of(snapshot.uri, replace(snapshot.manifest, shards=shards), snapshot.reduction)


def test_tombstones_add_up(snapshot: Snapshot) -> None:
    uri, entry = snapshot.uri, snapshot.manifest.shards[0]
    assert deleted_rows(uri, entry).tolist() == []
    assert live_mask(uri, entry).all()
    first = add_tombstones(uri, entry, [4, 1, 4], snapshot=2, unique="a")
    second = add_tombstones(uri, first, [0, 1], snapshot=3, unique="b")
    assert (first.dead, second.dead, second.live) == (2, 3, 3)
    assert deleted_rows(uri, second).tolist() == [0, 1, 4]
    assert live_mask(uri, second).tolist() == [False, False, True, True, False, True]
    # The file of the earlier snapshot is not changed.
    assert deleted_rows(uri, first).tolist() == [1, 4]
    assert add_tombstones(uri, second, [4], snapshot=4, unique="c") is second


def test_a_reader_leaves_deleted_rows_out(snapshot: Snapshot) -> None:
    entry = add_tombstones(
        snapshot.uri, snapshot.manifest.shards[0], [1, 4], snapshot=2, unique="a"
    )
    reader = ShardReader(with_entry(snapshot, entry).shard(0))
    np.testing.assert_array_equal(reader.live, live_mask(snapshot.uri, entry))
    assert ShardReader(snapshot.shard(0)).live is None


def test_shards_without_live_rows_are_left_out_and_the_others_renumbered(
    snapshot: Snapshot,
) -> None:
    deleted = {0: np.arange(6, dtype=np.uint32), 1: np.array([2], np.uint32)}
    entries = add_tombstones_all(
        snapshot.uri, snapshot.manifest.shards, deleted, snapshot=2, unique="a"
    )
    assert [(entry.number, entry.live) for entry in entries] == [(1, 5)]
    assert [entry.number for entry in renumbered(entries)] == [0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([1, 4], np.int64), "must hold 2 numbers of uint32.*found int64"),
        (np.array([1, 2, 4], np.uint32), r"must hold 2 numbers of uint32.*shape \(3,\)"),
        (np.array([4, 1], np.uint32), "must hold ascending numbers below 6"),
        (np.array([4, 4], np.uint32), "must hold ascending numbers below 6"),
        (np.array([4, 6], np.uint32), "must hold ascending numbers below 6"),
    ],
)
def test_a_file_that_contradicts_the_manifest_is_refused(
    snapshot: Snapshot, rows: np.ndarray, message: str
) -> None:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    data = buffer.getvalue()
    (Path(snapshot.uri) / "tombstones.npy").write_bytes(data)
    file = FileEntry(
        path="tombstones.npy", bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    entry = snapshot.manifest.shards[0]
    entry = replace(entry, dead=2, files={**entry.files, TOMBSTONES: file})
    message = rf"tombstones\.npy {message}"
    with pytest.raises(InvalidIndex, match=message):
        live_mask(snapshot.uri, entry)
    with pytest.raises(InvalidIndex, match=message):
        ShardReader(with_entry(snapshot, entry).shard(0))
