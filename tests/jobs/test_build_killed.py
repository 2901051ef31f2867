"""build-index killed without warning: what was published stays whole, the next run completes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pool3.index.snapshots.publication import newest_published
from tests.jobs.index_tables import LakeTable, some_vectors
from tests.jobs.killed_job import killed_at_its_first_file
from tests.jobs.test_build_again import assert_finds, build

pytestmark = pytest.mark.slow

IDS = [f"picture {n:03d}" for n in range(90)]


@pytest.mark.parametrize("pattern", ["shards/**/*", "snapshots/*2/*"])
def test_a_build_killed_at_its_writes_leaves_what_was_published(
    spark: SparkSession, tmp_path: Path, pattern: str
) -> None:
    """Killed, all its processes at once, as soon as a new file of shards or of the snapshot is."""
    lake, index = LakeTable(tmp_path / "features"), tmp_path / "index"
    lake.put(some_vectors(IDS[:60]))
    build(spark, lake, str(index))
    before = {path: path.stat().st_mtime_ns for path in index.rglob("*") if path.is_file()}
    old_rows = dict(lake.rows)
    lake.put(some_vectors(IDS[50:], seed=1))
    words = ["build-index", "--features", lake.uri, "--index", str(index)]
    words += ["--n-trees", "5", "--max-shrink", "0.5"]
    killed_at_its_first_file(words, index, pattern, tmp_path / "log")
    assert newest_published(str(index)) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    new_rows, lake.rows = lake.rows, old_rows
    assert_finds(str(index), lake)
    lake.rows = new_rows
    build(spark, lake, str(index))
    assert_finds(str(index), lake)
