"""What expires: never the published snapshot, nor a file that a retained one names."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import pool3
from pool3.index.snapshots.publication import newest_snapshot, publish
from pool3.index.snapshots.retention import delete_expired, list_index, retained_snapshots
from tests.small_index import build_index

VECTORS = np.eye(6, 4, dtype=np.float32) + 1
FOREVER = datetime.max.replace(tzinfo=UTC)


@pytest.fixture
def index(tmp_path: Path) -> str:
    """Four snapshots, the second published last, all a day old; and a file that none names."""
    folder = tmp_path / "index"
    for _ in range(4):
        build_index(folder, VECTORS)
    publish(str(folder), 2, by="test", why="back")
    (folder / "shards" / "orphan").mkdir()
    (folder / "shards" / "orphan" / "tree.ann").write_bytes(b"x")
    (folder / "notes.txt").write_text("somebody's")
    day_ago = time.time() - 24 * 3600
    for path in folder.rglob("*"):
        os.utime(path, (day_ago, day_ago))
    return str(folder)


def test_the_newest_and_the_published_stay_and_open(index: str) -> None:
    listing = list_index(index)
    retained = retained_snapshots(listing, newest=1, since=FOREVER)
    assert retained == {2, 4}
    delete_expired(listing, retained, before=FOREVER)
    remaining = list_index(index)
    assert set(remaining.manifests) == {2, 4}
    assert {path for path in remaining.objects if path.startswith("shards/")} == {
        path for path in remaining.named({2, 4}) if path.startswith("shards/")
    }
    assert (Path(index) / "notes.txt").exists()
    for number in (2, 4):
        assert len(pool3.open(index, snapshot=number).search(VECTORS[0], k=6).ids) == 6
    assert newest_snapshot(index) == 4


def test_what_was_published_within_the_grace_stays(index: str) -> None:
    listing = list_index(index)
    now = datetime.now(UTC)
    assert retained_snapshots(listing, newest=1, since=now - timedelta(hours=1)) == {2, 4}
    # All were published within these hours, one after the other.
    assert retained_snapshots(listing, newest=1, since=now - timedelta(hours=72)) == {1, 2, 3, 4}
    assert delete_expired(listing, {1, 2, 3, 4}, before=now - timedelta(hours=72)) == []
    orphan = [f"{index}/shards/orphan/tree.ann"]
    assert delete_expired(listing, {1, 2, 3, 4}, before=now - timedelta(hours=1)) == orphan
