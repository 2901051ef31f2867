"""compact-index and forget: the rows stay or go, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

import pool3
from jobs import compact_index, forget
from jobs.options.compact_index import CompactIndexConfig
from jobs.options.forget import ForgetConfig
from pool3.errors import UsageError
from pool3.index.format.entries import VECTORS
from pool3.index.recall.samples import SampleQueries
from pool3.index.snapshots.publication import newest_snapshot
from tests.jobs.index_tables import LakeTable, some_vectors
from tests.jobs.test_build_again import IDS, assert_finds, build, published


@pytest.fixture
def lake(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "features")
    table.put(some_vectors(IDS[:60]))
    return table


@pytest.fixture
def index(spark: SparkSession, tmp_path: Path, lake: LakeTable) -> str:
    """An index with two deltas and tombstones: snapshots 1 to 3."""
    where = str(tmp_path / "index")
    build(spark, lake, where)
    lake.put(some_vectors(IDS[60:70]))
    lake.put(some_vectors(IDS[:3], seed=1))
    build(spark, lake, where)
    lake.delete(IDS[60:63])
    lake.put(some_vectors(IDS[70:72]))
    build(spark, lake, where)
    return where


def stored(index: str) -> dict[str, bytes]:
    """Return the bytes of the stored vector of each live row."""
    opened, found = pool3.open(index), {}
    for shard in opened._fan_out.shards.readers:
        for row in range(shard.entry.rows):
            if shard.live is None or shard.live[row]:
                found[shard.ids.value(row)] = np.asarray(shard.vectors[row]).tobytes()
    return found


def test_folding_changes_no_row_and_frees_what_nobody_needs(
    spark: SparkSession, lake: LakeTable, index: str
) -> None:
    before, old = stored(index), published(index)
    kept = compact_index.run(spark, CompactIndexConfig(index=index, keep_snapshots=2))
    assert kept.details["snapshots"] == {"kept": [1, 2, 3, 4], "expired": []}  # within the grace
    after = published(index)
    assert (after.snapshot_id, len(after.shards), after.rows) == (4, 1, old.rows)
    assert sum(shard.dead for shard in after.shards) == 0
    assert after.recall is not None
    assert stored(index) == before
    assert_finds(index, lake)
    freed = compact_index.run(
        spark, CompactIndexConfig(index=index, keep_snapshots=2, grace_hours=0)
    )
    assert freed.details["snapshots"] == {"kept": [3, 4], "expired": [1, 2]}
    assert freed.details["unchanged"] is True
    assert len(pool3.open(index, snapshot=3)) == old.rows
    assert_finds(index, lake)
    assert build(spark, lake, index).details["unchanged"] is True  # digests were passed on


def everything(index: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(index).rglob("*") if path.is_file()}


def test_forgotten_pictures_stand_nowhere(spark: SparkSession, lake: LakeTable, index: str) -> None:
    old = published(index)
    unwanted = [IDS[1], IDS[20], IDS[70], IDS[60]]  # one re-made, one old, one new, one deleted
    vectors = stored(index)
    report = forget.run(spark, ForgetConfig(index=index, ids=",".join([*unwanted, "nobody"])))
    assert report.details["forgotten"] == {"ids": 5, "found": 4}
    assert report.counts["gone"] == 3
    for contents in everything(index).values():
        for image_id in unwanted:
            assert image_id.encode() not in contents
            assert image_id not in vectors or vectors[image_id] not in contents
    assert not set(unwanted) & set(json.dumps(report.details).split('"'))
    lake.delete(unwanted[:3])
    assert_finds(index, lake)
    after = published(index)
    assert after.samples is not None
    samples = SampleQueries.from_bytes((Path(index) / after.samples.path).read_bytes())
    assert 0 < len(samples) < len(old.shards) * 60
    assert newest_snapshot(index) == after.snapshot_id == 4
    report = forget.run(spark, ForgetConfig(index=index, ids=",".join(unwanted)))
    assert (report.details["forgotten"], newest_snapshot(index)) == ({"ids": 4, "found": 0}, 4)


@pytest.mark.slow
def test_a_snapshot_without_the_pictures_stays(
    spark: SparkSession, lake: LakeTable, index: str
) -> None:
    lake.put(some_vectors(IDS[80:82]))
    build(spark, lake, index)
    forget.run(spark, ForgetConfig(index=index, ids=IDS[80]))
    assert len(pool3.open(index, snapshot=3)) == 69
    with pytest.raises(UsageError):
        pool3.open(index, snapshot=4)
    shard = published(index).shards[-1]
    assert np.load(Path(index) / shard.files[VECTORS].path).shape == (1, 16)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"keep_snapshots": 0}, "--keep-snapshots"),
        ({"grace_hours": -1}, "--grace-hours"),
        ({"max_build_memory_mb": 0}, "--max-build-memory-mb"),
        ({"index": "http://x/y"}, "http"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        CompactIndexConfig(**{"index": "i", **options})


def test_forgetting_nobody_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--ids"):
        forget.run(None, ForgetConfig(index=str(tmp_path), ids=","))  # type: ignore[arg-type]
