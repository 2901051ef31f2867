"""The next snapshot of an index: each kind of manifest, its gates, and races of writers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pool3 import storage
from pool3.errors import AlreadyExists, GateError
from pool3.index.format.entries import FileEntry, ReductionEntry, TableEntry
from pool3.index.format.manifest import Manifest, parse_manifest
from pool3.index.format.recall_curve import RecallCurve, RecallPoint
from pool3.index.snapshots.gates import Gates
from pool3.index.snapshots.next import NextSnapshot
from pool3.index.snapshots.publication import (
    newest_published,
    newest_snapshot,
    publish,
    read_manifest,
)
from tests.small_index import build_index

VECTORS = np.eye(12, 4, dtype=np.float32) + 1
OPEN = Gates(max_shrink=1.0)
SAMPLES = FileEntry(path="snapshots/1/samples", bytes=1, sha256="0" * 64)


@pytest.fixture
def index(tmp_path: Path) -> str:
    """An index of two shards, published as snapshot 1."""
    return str(build_index(tmp_path / "index", VECTORS, n_shards=2))


def measured(manifest: Manifest, recall: float = 0.9) -> Manifest:
    """Return a manifest with the fields of a measured recall, and those of an earlier delta."""
    point = RecallPoint(
        level=0, search_k=9, rerank=20, ms=1.0, recall={"10": recall}, low={"10": recall}
    )
    return replace(
        manifest,
        base=7,
        unseen_rows=3,
        unseen_explained_variance=0.5,
        trained_rows=9,
        samples=SAMPLES,
        recall=RecallCurve(samples=5, rows=12, points=(point,)),
        shards=tuple(replace(shard, search_k=(4,)) for shard in manifest.shards),
    )


def test_a_run_on_a_missing_index_makes_the_first_snapshot(tmp_path: Path) -> None:
    upcoming = NextSnapshot.begin(str(tmp_path / "nothing"), "run")
    assert (upcoming.number, upcoming.parent, upcoming.base, upcoming.log_entry) == (
        1,
        None,
        None,
        0,
    )


def test_the_parent_is_the_newest_snapshot_and_the_base_the_published_one(index: str) -> None:
    build_index(Path(index), VECTORS, published=False)
    upcoming = NextSnapshot.begin(index, "run")
    assert (upcoming.number, upcoming.parent, upcoming.log_entry) == (3, 2, 1)
    assert upcoming.base == read_manifest(index, 1)


def test_each_kind_of_manifest_belongs_to_its_run(index: str) -> None:
    build_index(Path(index), VECTORS, published=False)
    upcoming, base = NextSnapshot.begin(index, "a run"), measured(read_manifest(index, 1))
    for manifest in (
        upcoming.fresh(**contents(base)),
        upcoming.added(base, base.shards),
        upcoming.folded(base, base.shards),
        upcoming.without(base, base.shards),
        upcoming.copy_of(base),
    ):
        assert (manifest.snapshot_id, manifest.parent, manifest.run_id) == (3, 2, "a run")
        age = datetime.now(UTC) - datetime.fromisoformat(manifest.created_at)
        assert timedelta(0) <= age < timedelta(minutes=5)
        assert parse_manifest(manifest.to_json(), "m") == manifest


def contents(manifest: Manifest) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(manifest).items()
        if name not in ("snapshot_id", "parent", "created_at", "run_id", "base")
    }


def test_a_fresh_snapshot_has_no_base(index: str) -> None:
    base = measured(read_manifest(index, 1))
    fresh = NextSnapshot.begin(index, "run").fresh(**contents(base))
    assert fresh.base is None
    assert contents(fresh) == contents(base)


def test_added_shards_keep_those_of_the_base(index: str) -> None:
    base = measured(read_manifest(index, 1))
    first, second = base.shards
    third = replace(second, number=2, rows=5)
    upcoming = NextSnapshot.begin(index, "run")
    added = upcoming.added(base, [first, second, third], table=TableEntry(uri="/t", version=4))
    assert (added.base, added.rows) == (1, 12 + 5)
    assert added.shards == (first, second, third)
    assert added.table == TableEntry(uri="/t", version=4)
    assert (added.samples, added.recall) == (base.samples, base.recall)
    assert (added.unseen_rows, added.trained_rows, added.counts) == (3, 9, base.counts)


def test_deleted_rows_do_not_count(index: str) -> None:
    base = read_manifest(index, 1)
    first, second = base.shards
    shards = [replace(first, dead=2), second]
    for make in ("added", "folded", "without"):
        assert getattr(NextSnapshot.begin(index, "run"), make)(base, shards).rows == 10


def test_a_folded_snapshot_has_new_shards_and_no_base(index: str) -> None:
    base = measured(read_manifest(index, 1))
    folded = NextSnapshot.begin(index, "run").folded(base, base.shards[:1])
    assert (folded.base, folded.rows, len(folded.shards)) == (None, 6, 1)
    # Its PCA is still that of the base.
    assert (folded.unseen_rows, folded.trained_rows) == (3, 9)
    assert folded.reduction == base.reduction


def test_a_snapshot_without_pictures_is_not_measured(index: str) -> None:
    base = measured(read_manifest(index, 1))
    without = NextSnapshot.begin(index, "run").without(base, base.shards)
    assert (without.base, without.samples, without.recall) == (1, None, None)


def test_a_copy_has_the_settings_and_nothing_that_was_measured(index: str) -> None:
    source = measured(read_manifest(index, 1))
    reduction = ReductionEntry(kind="none", dimension=4, explained_variance=1.0, file=None)
    upcoming = NextSnapshot.begin(index, "run")
    copy = upcoming.copy_of(source, rows=6, shards=source.shards[:1], reduction=reduction)
    assert (copy.base, copy.rows, copy.reduction) == (None, 6, reduction)
    assert (copy.samples, copy.recall) == (None, None)
    assert (copy.unseen_rows, copy.unseen_explained_variance) == (0, None)
    assert (copy.metric, copy.n_trees, copy.table) == (source.metric, source.n_trees, source.table)


def test_a_published_snapshot_is_the_one_that_readers_open(index: str) -> None:
    upcoming = NextSnapshot.begin(index, "a run")
    assert upcoming.base is not None
    manifest = upcoming.added(upcoming.base, upcoming.base.shards)
    upcoming.publish(manifest, why="it was time", gates=OPEN)
    assert read_manifest(index, 2) == manifest
    assert newest_published(index) == 2
    entry = json.loads(storage.fetch(storage.join(index, f"published/{2:020d}.json")))
    assert entry == {"snapshot": 2, "by": "a run", "why": "it was time"}


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        (Gates(max_shrink=0.4), r"60\.0% of the 12 rows of snapshot 1, found 6; snapshot 2"),
        (Gates(max_shrink=1.0, min_recall=0.95), r"0\.9000 at best; snapshot 2 is staged"),
    ],
)
def test_a_snapshot_stays_staged_when_a_gate_does_not_hold(
    index: str, gates: Gates, message: str
) -> None:
    upcoming = NextSnapshot.begin(index, "run")
    assert upcoming.base is not None
    base = measured(upcoming.base, recall=0.9)
    manifest = upcoming.added(base, base.shards[:1])
    with pytest.raises(GateError, match=message):
        upcoming.publish(manifest, why="too small", gates=gates)
    assert read_manifest(index, 2) == manifest
    assert (newest_snapshot(index), newest_published(index)) == (2, 1)
    # The next run passes the same gates against the published snapshot, under the next number.
    again = NextSnapshot.begin(index, "run")
    assert (again.number, again.base) == (3, upcoming.base)
    again.publish(again.added(base, base.shards[:1]), why="all the same", gates=OPEN)
    assert newest_published(index) == 3


def test_of_two_runs_that_take_one_number_the_first_wins(index: str) -> None:
    first, second = (NextSnapshot.begin(index, run) for run in ("first", "second"))
    assert first.base is not None
    first.publish(first.added(first.base, first.base.shards), why="first", gates=OPEN)
    with pytest.raises(AlreadyExists, match=r"snapshot 2 of .* written by another run.*second"):
        second.publish(second.folded(first.base, first.base.shards), why="second", gates=OPEN)
    assert read_manifest(index, 2).run_id == "first"
    assert newest_published(index) == 2


def test_what_was_published_meanwhile_is_not_overruled(index: str) -> None:
    upcoming = NextSnapshot.begin(index, "run")
    assert upcoming.base is not None
    publish(index, 1, by="another run", why="back to the first")
    manifest = upcoming.added(upcoming.base, upcoming.base.shards)
    with pytest.raises(AlreadyExists, match=r"since this one \(run\) began; snapshot 2 stays"):
        upcoming.publish(manifest, why="late", gates=OPEN)
    assert (newest_snapshot(index), newest_published(index)) == (2, 1)


def test_gates_compare_with_the_snapshot_that_was_published_at_the_beginning(index: str) -> None:
    build_index(Path(index), VECTORS[:2], published=False)  # newer, smaller, and not published
    upcoming = NextSnapshot.begin(index, "run")
    assert upcoming.base is not None
    half = upcoming.added(upcoming.base, upcoming.base.shards[:1])
    with pytest.raises(GateError, match="of the 12 rows of snapshot 1"):
        upcoming.publish(half, why="half", gates=Gates(max_shrink=0.1))
