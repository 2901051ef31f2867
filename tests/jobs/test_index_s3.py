"""The life of an index in a bucket of a real S3 server: jobs that change it, readers meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

import pool3
from jobs import build_index, compact_index, forget, publish_index
from jobs.build_index import BuildConfig
from jobs.options.compact_index import CompactIndexConfig
from jobs.options.forget import ForgetConfig
from jobs.options.publish_index import PublishConfig
from jobs.runtime.report import Report
from pool3 import storage
from pool3.errors import AlreadyExists, SnapshotExpired
from pool3.index.snapshots import next as next_snapshot
from pool3.index.snapshots.files import IndexFiles
from tests.jobs.index_tables import LakeTable, some_vectors

IDS = [f"picture {n:03d}" for n in range(60)]
DIMENSION = 16

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def executors(spark: SparkSession, s3_bucket: str, tmp_path: Path) -> Iterator[None]:
    """Executors find the server in their environment; this process has a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in os.environ.items():
            if name.startswith("AWS_"):
                patch.setitem(spark.sparkContext.environment, name, value)
        patch.setenv("POOL3_CACHE_DIR", str(tmp_path / "cache"))
        yield


@pytest.fixture
def lake(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "features")
    table.put(some_vectors(IDS[:40], DIMENSION))
    return table


def build(spark: SparkSession, lake: LakeTable, index: str) -> Report:
    options: dict[str, Any] = {"n_shards": 2, "n_trees": 3, "max_shrink": 0.5}
    return build_index.run(spark, BuildConfig(features=lake.uri, index=index, **options))


def found(index: pool3.Index) -> list[str]:
    query = np.ones(DIMENSION)
    return sorted(index.search(query, k=99, search_k=10**6, rerank=99).ids)


def names(index: str, image_id: str) -> list[str]:
    """Return the objects of an index in which an image_id stands."""
    objects = storage.list_objects(index)
    return [found.uri for found in objects if image_id.encode() in storage.fetch(found.uri)]


def test_a_life_with_readers(
    spark: SparkSession, lake: LakeTable, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IndexFiles, "ranged", True)  # of this process: vectors stay in the bucket
    index = f"{s3_bucket}/index"
    build(spark, lake, index)
    first = pool3.open(index)
    assert found(first) == IDS[:40]
    lake.put(some_vectors(IDS[40:50], DIMENSION))
    lake.delete(IDS[:5])
    build(spark, lake, index)
    second = first.refresh()
    assert (first.snapshot_id, second.snapshot_id) == (1, 2)
    assert (found(first), found(second)) == (IDS[:40], IDS[5:50])
    publish_index.run(PublishConfig(index=index, snapshot=1))
    assert found(pool3.open(index)) == IDS[:40]
    publish_index.run(PublishConfig(index=index, snapshot=2))
    compact_index.run(spark, CompactIndexConfig(index=index, keep_snapshots=1, grace_hours=0))
    with pytest.raises(SnapshotExpired, match=r"refresh\(\)"):
        found(first)
    with pytest.raises(SnapshotExpired):
        pool3.open(index, snapshot=1)
    third = first.refresh()
    assert (third.snapshot_id, found(third)) == (3, IDS[5:50])
    assert names(index, IDS[9])
    forget.run(spark, ForgetConfig(index=index, ids=IDS[9]))
    assert names(index, IDS[9]) == []
    assert found(third.refresh()) == [name for name in IDS[5:50] if name != IDS[9]]


def test_of_two_builds_at_once_one_wins_and_the_other_is_told(
    spark: SparkSession, lake: LakeTable, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = f"{s3_bucket}/index"
    build(spark, lake, index)
    lake.put(some_vectors(IDS[40:], DIMENSION))
    together = threading.Barrier(2, timeout=120)
    write = next_snapshot.write_manifest

    def write_together(*arguments: Any) -> str:
        together.wait()
        return write(*arguments)

    monkeypatch.setattr(next_snapshot, "write_manifest", write_together)
    outcomes: list[Report | AlreadyExists] = []

    def run() -> None:
        try:
            outcomes.append(build(spark, lake, index))
        except AlreadyExists as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyExists", "Report"]
    (lost,) = [outcome for outcome in outcomes if isinstance(outcome, AlreadyExists)]
    assert "run this one again" in str(lost)
    reader = pool3.open(index)
    assert (reader.snapshot_id, found(reader)) == (2, IDS)
    monkeypatch.undo()
    compact_index.run(spark, CompactIndexConfig(index=index, keep_snapshots=1, grace_hours=0))
    named = {file.path for file in pool3.open(index).manifest.files()}
    there = {entry.uri.removeprefix(f"{index}/") for entry in storage.list_objects(index)}
    kept = {path for path in there if path.startswith(("shards/", "metadata/"))}
    assert kept <= named
    assert found(reader.refresh()) == IDS
