"""The feature table as read by Delta readers that share no code with ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyspark.sql import SparkSession

from jobs.extract_features import ExtractConfig, run
from pool3.features.table import own_table

COUNT = 12


@pytest.fixture(scope="module")
def table(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, colour_model: str) -> str:
    """A table of two versions with added and removed files, and with failures."""
    folder = tmp_path_factory.mktemp("readers")
    (folder / "lake").mkdir()
    for number in range(COUNT):
        Image.new("RGB", (9, 9), (number, 0, 255)).save(folder / "lake" / f"{number:02d}.png")
    (folder / "lake" / "notes.txt").write_text("no picture")
    config = ExtractConfig(
        input=str(folder / "lake"), output=str(folder / "table"), model=colour_model
    )
    run(spark, config)
    Image.new("RGB", (9, 9), (99, 0, 255)).save(folder / "lake" / "03.png")
    run(spark, config)
    return config.output


def ours(table: str) -> list[tuple[Any, ...]]:
    newest = own_table(table)
    assert newest is not None
    assert newest.version == 1
    batches = [batch for file in newest.files for batch in newest.read(file, None)]
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted((row["image_id"], row["status"], row["features"]) for row in rows)


def replayed(table: Path) -> list[str]:
    """Return the files of the table according to its log."""
    live: set[str] = set()
    for commit in sorted((table / "_delta_log").glob("*.json")):
        for action in map(json.loads, commit.read_text().splitlines()):
            live |= {action["add"]["path"]} if "add" in action else set()
            live -= {action["remove"]["path"]} if "remove" in action else set()
    return [str(table / path) for path in sorted(live)]


def test_polars_reads_the_same_rows(table: str) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.scan_delta(table).select("image_id", "status", "features").collect()
    assert sorted(frame.rows()) == ours(table)
    assert frame["image_id"].n_unique() == len(frame) == COUNT + 1


def test_duckdb_reads_the_same_rows(table: str) -> None:
    """DuckDB downloads its Delta reader when it is first used, so the log is replayed by hand."""
    duckdb = pytest.importorskip("duckdb")
    files = replayed(Path(table))
    rows = duckdb.sql(
        "SELECT image_id, status, features FROM read_parquet($files)", params={"files": files}
    ).fetchall()
    assert sorted(rows) == ours(table)
