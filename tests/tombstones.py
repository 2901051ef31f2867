"""Snapshots in which rows are dead, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pool3.index.shards.tombstones import add_tombstones_all, renumbered
from pool3.index.snapshots.publication import (
    newest_snapshot,
    publish,
    read_manifest,
    write_manifest,
)


def add_tombstones(directory: Path | str, dead: Mapping[int, Sequence[int]]) -> None:
    """Publish the newest snapshot once more, with some rows of some shards dead."""
    index = str(directory)
    newest = newest_snapshot(index)
    assert newest is not None
    manifest = read_manifest(index, newest)
    rows = {shard: np.array(sorted(rows), np.uint32) for shard, rows in dead.items()}
    entries = add_tombstones_all(index, manifest.shards, rows, snapshot=newest + 1, unique="test")
    write_manifest(
        index,
        replace(
            manifest,
            snapshot_id=newest + 1,
            parent=newest,
            shards=renumbered(entries),
            rows=sum(entry.live for entry in entries),
        ),
    )
    publish(index, newest + 1, by="test", why="rows died")
