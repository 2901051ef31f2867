from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pool3 import storage
from pool3.errors import AlreadyExists, InvalidIndex
from pool3.index.reduction.gram import Gram
from pool3.index.reduction.pca import fit
from pool3.index.snapshots.publication import (
    manifest_uri,
    newest_published,
    newest_snapshot,
    publish,
    read_manifest,
    write_manifest,
)
from pool3.index.snapshots.store import store_reduction

VECTORS = np.eye(4, dtype=np.float32)


def test_snapshots_are_numbered_one_by_one(make_index, tmp_path):
    index = str(tmp_path / "index")
    assert newest_snapshot(index) is None
    assert newest_published(index) is None
    make_index(VECTORS, into=Path(index))
    make_index(VECTORS, into=Path(index), published=False)
    assert newest_snapshot(index) == 2
    assert newest_published(index) == 1
    assert read_manifest(index, 2).parent == 1
    names = {path.relative_to(index).as_posix() for path in Path(index).rglob("*.json")}
    assert names == {
        f"snapshots/{1:020d}/manifest.json",
        f"snapshots/{2:020d}/manifest.json",
        f"published/{1:020d}.json",
    }


def test_publishing_goes_forwards_and_back(make_index):
    index = str(make_index(VECTORS))
    make_index(VECTORS, into=Path(index))
    assert newest_published(index) == 2
    assert publish(index, 1, by="someone", why="2 is worse") == 3
    assert newest_published(index) == 1
    entry = json.loads(storage.fetch(storage.join(index, f"published/{3:020d}.json")))
    assert entry == {"snapshot": 1, "by": "someone", "why": "2 is worse"}


def test_only_a_snapshot_that_is_there_can_be_published(make_index):
    index = str(make_index(VECTORS))
    with pytest.raises(InvalidIndex, match="there is no snapshot 9 in"):
        publish(index, 9, by="x", why="y")
    assert newest_published(index) == 1


def test_other_files_in_the_log_do_not_count(make_index):
    index = make_index(VECTORS)
    (index / "published" / "9.json").write_text("{}")
    (index / "published" / f"{9:020d}.json.tmp").write_text("{}")
    assert newest_published(str(index)) == 1


def test_a_damaged_log_entry_is_named(make_index):
    index = make_index(VECTORS)
    (index / "published" / f"{2:020d}.json").write_text('{"snapshot": "1", "by": "x", "why": "y"}')
    with pytest.raises(InvalidIndex, match=r"'snapshot' in .*0002\.json"):
        newest_published(str(index))


def test_the_loser_of_a_race_gets_an_error_and_changes_nothing(make_index):
    index = str(make_index(VECTORS))
    first = read_manifest(index, 1)
    start, outcomes, refusals = threading.Barrier(4), [], []

    def write(run_id):
        start.wait()
        try:
            write_manifest(index, replace(first, snapshot_id=2, parent=1, run_id=run_id))
            outcomes.append(run_id)
        except AlreadyExists as error:
            refusals.append((run_id, str(error)))

    threads = [threading.Thread(target=write, args=(f"run-{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(outcomes), len(refusals)) == (1, 3)
    for run_id, message in refusals:
        assert f"snapshot 2 of {index} was written by another run" in message
        assert run_id in message
    assert read_manifest(index, 2).run_id == outcomes[0]


def test_racing_writers_share_no_reduction_file(tmp_path):
    gram = Gram("euclidean", 130)
    gram.add(np.random.default_rng(0).normal(size=(20, 130)).astype(np.float32))
    index = str(tmp_path)
    entries = [store_reduction(index, fit(gram), snapshot=2, unique=unique) for unique in "ab"]
    assert entries[0].file.path != entries[1].file.path
    assert entries[0].file.sha256 == entries[1].file.sha256


def test_a_pinned_manifest(make_index):
    index = str(make_index(VECTORS))
    data = storage.fetch(manifest_uri(index, 1))
    digest = hashlib.sha256(data).hexdigest()
    assert read_manifest(index, 1, expected_sha256=digest.upper()).snapshot_id == 1
    with pytest.raises(InvalidIndex, match="must have the SHA-256 0000.*; found " + digest):
        read_manifest(index, 1, expected_sha256="0" * 64)


def test_a_manifest_in_the_wrong_place_is_refused(make_index):
    index = str(make_index(VECTORS))
    storage.put(manifest_uri(index, 5), storage.fetch(manifest_uri(index, 1)))
    with pytest.raises(InvalidIndex, match="must be of snapshot 5; found 1"):
        read_manifest(index, 5)
