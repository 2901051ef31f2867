"""Extraction from and to buckets of a real S3 server, over a network with failures."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from PIL import Image
from pyspark.sql import SparkSession

from jobs.extract_features import ExtractConfig, run
from pool3 import storage
from tests.s3_faults import FaultyBucket, s3_faults

__all__ = ["s3_faults"]

COUNT = 40

pytestmark = pytest.mark.slow


@pytest.fixture
def lake(
    spark: SparkSession, s3_faults: FaultyBucket, monkeypatch: pytest.MonkeyPatch
) -> FaultyBucket:
    """A bucket with pictures; executors have its endpoint in their environment."""
    for name, value in os.environ.items():
        if name.startswith("AWS_"):
            monkeypatch.setitem(spark.sparkContext.environment, name, value)
    for number in range(COUNT):
        file = io.BytesIO()
        Image.new("RGB", (20, 10), (number, 7, 255)).save(file, "PNG")
        storage.put(f"{s3_faults.uri}/photos/{number:02d}.png", file.getvalue())
    return s3_faults


def rows_of(config: ExtractConfig) -> dict[str, dict[str, Any]]:
    rows = DeltaTable(config.output).to_pyarrow_table().to_pylist()
    assert len({row["image_id"] for row in rows}) == len(rows)
    return {Path(row["image_id"]).name: row for row in rows}


def test_network_failures_have_error_codes_and_the_next_run_retries_them(
    spark: SparkSession, lake: FaultyBucket, tmp_path: Path, colour_model: str
) -> None:
    config = ExtractConfig(
        input=f"{lake.uri}/photos",
        output=f"{lake.uri}/features",
        model=colour_model,
        max_transient=0.5,
        max_failed=1.0,
    )
    codes = {
        "00.png": ("500", "fetch_failed"),
        "01.png": ("503", "fetch_failed"),
        "02.png": ("reset", "fetch_failed"),
        "03.png": ("403", "denied"),
        "04.png": ("404", "not_found"),
        "05.png": ("expired", "denied"),
    }
    for name, (fault, _) in codes.items():
        lake.proxy.fail(f"{lake.uri}/photos/{name}", fault)
    for name, fault in (("06.png", "503"), ("07.png", "short"), ("08.png", "reset")):
        lake.proxy.fail(f"{lake.uri}/photos/{name}", fault, times=1)  # the second try succeeds
    first = run(spark, config)
    rows = rows_of(config)
    assert len(rows) == COUNT
    assert {name: row["error"] for name, row in rows.items() if row["error"]} == {
        name: code for name, (_, code) in codes.items()
    }
    assert first.counts == {"ok": COUNT - 6, "failed": 6, "skipped": 0, "gone": 0}
    assert rows["09.png"]["etag"]
    lake.proxy.heal()
    second = run(spark, config)
    assert second.details["planned"] == {"retried": 6, "skipped": COUNT - 6}
    assert all(row["status"] == "ok" for row in rows_of(config).values())
    reads = lake.proxy.reads(f"{lake.uri}/photos/20.png")
    assert run(spark, config).counts["skipped"] == COUNT
    assert lake.proxy.reads(f"{lake.uri}/photos/20.png") == reads  # nothing is fetched again


def test_an_unreachable_lake_stops_the_run_which_can_be_resumed(
    spark: SparkSession, lake: FaultyBucket, tmp_path: Path, colour_model: str
) -> None:
    config = ExtractConfig(
        input=f"{lake.uri}/photos", output=str(tmp_path / "features"), model=colour_model
    )
    for number in range(COUNT):
        lake.proxy.fail(f"{lake.uri}/photos/{number:02d}.png", "403")
    denied = run(spark, config)
    assert denied.exit_code == 1
    assert "denied for all" in str(denied.error)
    lake.proxy.heal()
    for number in range(10):
        lake.proxy.fail(f"{lake.uri}/photos/{number:02d}.png", "404")
    some = run(spark, replace(config, max_failed=1.0))
    assert some.exit_code == 1
    assert "--max-transient" in str(some.error)
    lake.proxy.heal()
    assert run(spark, config).exit_code == 0
    assert all(row["status"] == "ok" for row in rows_of(config).values())
