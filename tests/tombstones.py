"""Snapshots with deleted rows, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pool3.index.shards.tombstones import add_tombstones_all, renumbered
from pool3.index.snapshots.gates import Gates
from pool3.index.snapshots.next import NextSnapshot


def add_tombstones(directory: Path | str, deleted: Mapping[int, Sequence[int]]) -> None:
    """Publish the published snapshot once more, with some rows of some shards deleted."""
    upcoming = NextSnapshot.begin(str(directory), "test")
    assert upcoming.base is not None
    rows = {shard: np.array(sorted(rows), np.uint32) for shard, rows in deleted.items()}
    entries = add_tombstones_all(
        upcoming.index, upcoming.base.shards, rows, snapshot=upcoming.number, unique="test"
    )
    manifest = upcoming.added(upcoming.base, renumbered(entries))
    upcoming.publish(manifest, why="rows were deleted", gates=Gates(max_shrink=1.0))
