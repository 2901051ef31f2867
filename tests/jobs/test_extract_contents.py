"""extract-features on tables with the bytes of the pictures."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from PIL import Image
from pyspark.sql import DataFrame, SparkSession

from jobs.extract_features import ExtractConfig, run
from jobs.steps.extract import contents, plan
from pool3.extract import layout

COUNT = 60


def picture(red: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (20, 10), (red, 0, 255)).save(data, "PNG")
    return data.getvalue()


def write(path: Path, reds: list[int], label: str = "tram") -> None:
    rows = {
        "id": [f"{number:03d}" for number in range(len(reds))],
        "photo": [picture(red) for red in reds],
        "label": [label] * len(reds),
    }
    pq.write_table(pa.table(rows), path, row_group_size=7)


def rows_of(config: ExtractConfig) -> dict[str, dict[str, Any]]:
    rows = DeltaTable(config.output).to_pyarrow_table().to_pylist()
    assert len({row["image_id"] for row in rows}) == len(rows)
    return {row["image_id"]: row for row in rows}


@pytest.fixture
def config(tmp_path: Path, colour_model: str) -> ExtractConfig:
    write(tmp_path / "photos.parquet", list(range(COUNT)))
    return ExtractConfig(
        input=str(tmp_path / "photos.parquet"),
        content_column="photo",
        id_column="id",
        output=str(tmp_path / "table"),
        model=colour_model,
    )


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The columns of the inputs that a run compares; blocks are small, so that tasks share them."""
    compared_columns = []
    plan_actions = plan.plan_actions

    def watched(inputs: DataFrame, *rest: Any) -> DataFrame:
        compared_columns.append(inputs.columns)
        return plan_actions(inputs, *rest)

    monkeypatch.setattr("jobs.steps.extract.compare.plan_actions", watched)
    monkeypatch.setattr(contents, "ROWS_PER_BLOCK", 16)
    monkeypatch.setattr(plan, "ROWS_PER_BLOCK", 16)
    monkeypatch.setattr(layout, "FEWEST_PICTURES", 10)
    return compared_columns


def test_pictures_in_a_table_are_extracted_once_and_again_when_they_change(
    spark: SparkSession, config: ExtractConfig, compared: list[list[str]], tmp_path: Path
) -> None:
    first = run(spark, config)
    assert first.counts == {"ok": COUNT, "failed": 0, "skipped": 0, "gone": 0}
    assert first.details["tasks"] == 6
    rows = rows_of(config)
    assert {name: row["features"] for name, row in rows.items()} == {
        f"{red:03d}": [red, 0, 255] for red in range(COUNT)
    }
    assert all(row["meta"] == {"label": "tram"} for row in rows.values())
    reds = [*range(COUNT - 1), 200, 201]  # the last one changes, and one is new
    write(tmp_path / "photos.parquet", reds)
    second = run(spark, config)
    assert second.details["planned"] == {"changed": 1, "new": 1, "skipped": COUNT - 1}
    again = rows_of(config)
    assert [again[f"{number:03d}"]["features"][0] for number in range(COUNT + 1)] == reds
    assert len(compared) == 2
    assert all("content" not in columns for columns in compared)


@pytest.mark.slow
def test_unchanged_pictures_in_a_table_are_skipped(
    spark: SparkSession, config: ExtractConfig, tmp_path: Path
) -> None:
    assert run(spark, replace(config, plan=True)).details["sampled"] == COUNT
    run(spark, config)
    assert run(spark, config).counts["skipped"] == COUNT
    write(tmp_path / "photos.parquet", list(range(COUNT)), label="bus")
    report = run(spark, config)
    assert (report.details["tasks"], report.details["meta_updated"]) == (0, COUNT)


@pytest.mark.slow
def test_pictures_in_a_query_are_extracted(
    spark: SparkSession, config: ExtractConfig, tmp_path: Path
) -> None:
    spark.read.parquet(str(tmp_path / "photos.parquet")).createOrReplaceTempView("lake_photos")
    twice = "(SELECT * FROM lake_photos UNION ALL SELECT * FROM lake_photos WHERE id = '007')"
    spark.sql(f"SELECT * FROM {twice}").createOrReplaceTempView("lake_photos_twice")
    config = replace(config, input=(), input_table="lake_photos_twice", on_duplicate="last")
    assert run(spark, config).counts == {"ok": COUNT, "failed": 0, "skipped": 0, "gone": 0}
    assert rows_of(config)["007"]["features"] == [7, 0, 255]
    assert run(spark, config).counts["skipped"] == COUNT
