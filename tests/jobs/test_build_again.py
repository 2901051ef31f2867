"""build-index run again: only what changed in the table is built, and a search finds just that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import pool3
from jobs import build_index, publish_index
from jobs.build_index import BuildConfig
from jobs.options.publish_index import PublishConfig
from jobs.runtime.report import Report
from jobs.steps.index import changes, report
from pool3.errors import AlreadyExists, InvalidIndex
from pool3.index.format.entries import METADATA, TREE
from pool3.index.format.manifest import Manifest
from pool3.index.snapshots import next as next_snapshot
from pool3.index.snapshots.publication import (
    newest_published,
    newest_snapshot,
    publish,
    read_manifest,
)
from tests.jobs.index_tables import LakeTable, some_vectors

IDS = [f"picture {n:03d}" for n in range(90)]


@pytest.fixture
def lake(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "features")
    table.put(some_vectors(IDS[:60]))
    return table


@pytest.fixture
def index(tmp_path: Path) -> str:
    return str(tmp_path / "index")


def build(spark: SparkSession, lake: LakeTable, index: str, **options: Any) -> Report:
    options = {"n_shards": 2, "n_trees": 5, "max_shrink": 0.5, **options}
    return build_index.run(spark, BuildConfig(features=lake.uri, index=index, **options))


def published(index: str) -> Manifest:
    number = newest_published(index)
    assert number is not None
    return read_manifest(index, number)


def assert_finds(index: str, lake: LakeTable, labels: bool = True) -> None:
    """Compare a search of everything with the table: no row lost, wrong, dead or twice."""
    live, opened = lake.live(), pool3.open(index)
    assert len(opened) == len(live)
    ids = sorted(live)
    matrix = np.stack([live[image_id] for image_id in ids]).astype(np.float64)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    for image_id in ids[::7]:
        hits = opened.search(live[image_id], k=len(ids), search_k=10**7, rerank=10**4)
        expected = 1 - matrix @ matrix[ids.index(image_id)]
        assert sorted(hits.ids) == ids
        found = dict(zip(hits.ids, hits.distances, strict=True))
        np.testing.assert_allclose([found[name] for name in ids], expected, atol=2e-3)
    if labels:
        frame = opened.search(live[ids[0]], k=len(ids), search_k=10**7).to_pandas()
        told = dict(zip(frame["image_id"], frame["meta.label"], strict=True))
        assert told == {image_id: lake.labels()[image_id] for image_id in ids}


@pytest.fixture(params=[10**6, 0], ids=["compared by the driver", "compared on Spark"])
def either_comparison(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_DRIVER_ROWS", request.param)


@pytest.mark.usefixtures("either_comparison")
def test_only_what_changed_is_built_and_a_search_finds_just_that(
    spark: SparkSession, lake: LakeTable, index: str
) -> None:
    build(spark, lake, index)
    before = published(index)
    assert_finds(index, lake)
    lake.put(some_vectors(IDS[60:70]))
    lake.put(some_vectors(IDS[:5], seed=1), label="another picture")
    lake.gone(IDS[5:8])
    lake.delete(IDS[8:10])
    report = build(spark, lake, index)
    after = published(index)
    assert report.counts == {"ok": 15, "failed": 0, "skipped": 50, "gone": 5}
    assert (after.snapshot_id, after.base, after.rows, after.unseen_rows) == (2, 1, 65, 15)
    assert [shard.files[TREE] for shard in after.shards[:2]] == [
        shard.files[TREE] for shard in before.shards
    ]
    assert [shard.dead for shard in after.shards] == [*(s.dead for s in after.shards[:2]), 0]
    assert sum(shard.dead for shard in after.shards) == 10
    assert_finds(index, lake)
    assert len(pool3.open(index, snapshot=1)) == 60


@pytest.mark.usefixtures("either_comparison")
def test_nothing_new_makes_no_snapshot_whatever_became_of_the_files(
    spark: SparkSession, lake: LakeTable, index: str
) -> None:
    build(spark, lake, index)
    lake.merge_files()
    assert build(spark, lake, index).details["unchanged"] is True
    assert newest_snapshot(index) == 1


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["log", "file"])
def test_without_the_old_version_all_rows_are_compared(
    spark: SparkSession, lake: LakeTable, index: str, lost: str
) -> None:
    build(spark, lake, index)
    old = {path.name for path in Path(lake.uri).glob("*.parquet")}
    lake.put(some_vectors(IDS[3:5], seed=1))
    lake.delete(IDS[5:7])
    if lost == "log":
        from pool3.features.vacuum import checkpoint, log_before
        from pool3.storage.removal import delete_objects

        delete_objects(log_before(lake.uri, checkpoint(lake.uri)))
    else:
        for name in old - set(lake._files):
            (Path(lake.uri) / name).unlink()
    report = build(spark, lake, index)
    assert report.counts == {"ok": 2, "failed": 0, "skipped": 56, "gone": 2}
    assert_finds(index, lake)


@pytest.mark.slow
def test_a_table_made_anew_at_the_same_place_is_compared_whole(
    spark: SparkSession, tmp_path: Path, lake: LakeTable, index: str
) -> None:
    import shutil
    import time

    build(spark, lake, index)
    shutil.rmtree(lake.uri)
    time.sleep(1.1)
    again = LakeTable(tmp_path / "features")
    again.put(some_vectors(IDS[:60], seed=2))
    build(spark, again, index)
    assert_finds(index, again)


def test_labels_change_without_touching_a_tree(
    spark: SparkSession, lake: LakeTable, index: str
) -> None:
    build(spark, lake, index)
    before = published(index)
    lake.relabel(IDS[10:12], "relabelled")
    assert build(spark, lake, index).counts["ok"] == 0
    after = published(index)
    for old, new in zip(before.shards, after.shards, strict=True):
        assert {k: f for k, f in old.files.items() if k != METADATA} == {
            k: f for k, f in new.files.items() if k != METADATA
        }
    assert after.recall == before.recall
    assert_finds(index, lake)


@pytest.mark.slow
def test_a_metadata_table_tells_of_old_and_later_of_new_rows(
    spark: SparkSession, tmp_path: Path, lake: LakeTable, index: str
) -> None:
    build(spark, lake, index)
    trees = [shard.files[TREE] for shard in published(index).shards]
    tags = tmp_path / "tags"
    tags.mkdir()
    known = IDS[:50] + IDS[60:70]
    table = pa.table({"image_id": known, "price": pa.array(range(len(known)), pa.int32())})
    pq.write_table(table, tags / "tags.parquet")
    build(spark, lake, index, metadata=str(tags))
    assert [shard.files[TREE] for shard in published(index).shards] == trees
    assert build(spark, lake, index, metadata=str(tags)).details["unchanged"] is True
    lake.put(some_vectors(IDS[60:65]))
    build(spark, lake, index)
    frame = pool3.open(index).search(some_vectors(IDS[:1])[IDS[0]], k=65, search_k=10**7)
    told = frame.to_pandas().set_index("image_id")["price"]
    assert {name: told[name] for name in IDS[:50] + IDS[60:65]} == {
        name: known.index(name) for name in IDS[:50] + IDS[60:65]
    }
    assert told[IDS[50:60]].isna().all()
    assert_finds(index, lake)


def test_a_gate_leaves_the_snapshot_staged_until_somebody_publishes_it(
    spark: SparkSession, lake: LakeTable, index: str
) -> None:
    build(spark, lake, index)
    lake.delete(IDS[:10])
    report = build(spark, lake, index, max_shrink=0.05)
    assert (report.exit_code, report.details["snapshot_id"]) == (3, 2)
    assert report.error is not None
    assert "--max-shrink" in report.error
    assert len(pool3.open(index)) == 60
    publish_index.run(PublishConfig(index=index, snapshot=2))
    assert_finds(index, lake)
    publish_index.run(PublishConfig(index=index, snapshot=1))
    assert len(pool3.open(index)) == 60
    assert build(spark, lake, index).details["snapshot_id"] == 3
    assert_finds(index, lake)
    with pytest.raises(InvalidIndex, match="no snapshot 9"):
        publish_index.run(PublishConfig(index=index, snapshot=9))


def test_recall_under_the_gate_is_not_published(spark: SparkSession, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table = pa.table(
        {
            "image_id": [f"{n:04d}" for n in range(1500)],
            "features": pa.array(random.normal(size=(1500, 512)).tolist()),
        }
    )
    (tmp_path / "f").mkdir()
    pq.write_table(table, tmp_path / "f" / "one.parquet")
    options = {"features": str(tmp_path / "f"), "index": str(tmp_path / "index"), "n_trees": 1}
    report = build_index.run(spark, BuildConfig(**options, min_recall=1.0))
    assert report.exit_code == 3
    assert newest_published(str(tmp_path / "index")) is None
    measured = report.details["recall"]
    assert 0.3 < measured["10"] < 1  # type: ignore[index]
    curve = read_manifest(str(tmp_path / "index"), 1).recall
    assert curve is not None
    assert (curve.samples, curve.rows) == (1000, 1500)


@pytest.mark.slow
def test_what_was_published_meanwhile_is_not_overruled(
    spark: SparkSession, lake: LakeTable, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(spark, lake, index)
    lake.put(some_vectors(IDS[60:70]))

    def published_first(*args: Any, **options: Any) -> int:
        publish(index, 1, by="another run", why="a test")
        return publish(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(next_snapshot, "publish", published_first)
        with pytest.raises(AlreadyExists, match="run again"):
            build(spark, lake, index)
    assert published(index).snapshot_id == 1
    build(spark, lake, index)
    assert_finds(index, lake)


@pytest.mark.slow
def test_other_options_build_from_the_whole_table(
    spark: SparkSession, lake: LakeTable, index: str
) -> None:
    build(spark, lake, index)
    report = build(spark, lake, index, n_trees=6)
    assert "n_trees is 6, and 5" in str(report.details["built_anew"])
    assert build(spark, lake, index, n_trees=6, refit_pca=True).details["snapshot_id"] == 3
    assert published(index).base is None


def test_publish_index_main(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = publish_index.main(["--index", str(tmp_path / "index"), "--snapshot", "1"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (status, report["outcome"]) == (2, "usage")
    assert not (tmp_path / "index").exists()


def test_a_pca_that_saw_too_little_and_many_deltas_are_told(tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.small_index import build_index as built

    manifest = read_manifest(str(built(tmp_path / "i", np.eye(4, dtype=np.float32) + 1)), 1)
    assert report.advice(manifest) == []
    seldom = replace(manifest, unseen_rows=1, unseen_explained_variance=0.1)
    assert "--refit-pca" in report.advice(seldom)[0]
    much = replace(manifest, unseen_rows=2, unseen_explained_variance=1.0)
    assert "without 50% of the rows" in report.advice(much)[0]
    shards = tuple(replace(manifest.shards[0], added_in=number) for number in range(1, 23))
    assert "compact-index" in report.advice(replace(manifest, shards=shards))[0]
