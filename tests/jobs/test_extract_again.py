"""extract-features run again: it extracts new, changed, gone or failed pictures only."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from PIL import Image
from pyspark.sql import SparkSession

from jobs.extract_features import ExtractConfig, run
from pool3.errors import Pool3Error, UsageError
from pool3.features.lease import leased
from pool3.features.suppression import suppress

COUNT = 12


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    for number in range(COUNT):
        paint(folder / f"{number:02d}.png", number)
    return folder


def paint(path: Path, red: int) -> None:
    Image.new("RGB", (20, 10), (red, 0, 255)).save(path)


@pytest.fixture
def config(pictures: Path, tmp_path: Path, colour_model: str) -> ExtractConfig:
    return ExtractConfig(input=str(pictures), output=str(tmp_path / "table"), model=colour_model)


def rows_of(config: ExtractConfig, version: int | None = None) -> dict[str, dict[str, Any]]:
    rows = DeltaTable(config.output, version=version).to_pyarrow_table().to_pylist()
    by_name = {Path(row["image_id"]).name: row for row in rows}
    assert len(by_name) == len(rows), "an image_id stands more than once"
    return by_name


def test_a_second_run_over_the_same_input_does_nothing(
    spark: SparkSession, config: ExtractConfig
) -> None:
    first = run(spark, config)
    assert first.counts == {"ok": COUNT, "failed": 0, "skipped": 0, "gone": 0}
    second = run(spark, config)
    assert second.counts == {"ok": 0, "failed": 0, "skipped": COUNT, "gone": 0}
    assert (second.details["tasks"], second.exit_code) == (0, 0)
    assert DeltaTable(config.output).version() == 0


def test_new_and_changed_pictures_are_extracted_and_features_of_equal_bytes_are_copied(
    spark: SparkSession, config: ExtractConfig, pictures: Path
) -> None:
    run(spark, config)
    before = rows_of(config)
    paint(pictures / "00.png", 200)
    paint(pictures / "new.png", 201)
    (pictures / "twin.png").write_bytes((pictures / "05.png").read_bytes())
    os.utime(pictures / "06.png", (1e9, 1e9))  # touched, with the same bytes
    report = run(spark, config)
    rows = rows_of(config)
    assert report.counts == {"ok": 4, "failed": 0, "skipped": COUNT - 2, "gone": 0}
    assert report.details["planned"] == {"changed": 2, "new": 2, "skipped": COUNT - 2}
    assert report.details["copied"] == 2
    assert rows["00.png"]["features"] == [200, 0, 255]
    assert rows["new.png"]["features"] == [201, 0, 255]
    assert rows["twin.png"]["features"] == rows["05.png"]["features"]
    assert rows["06.png"]["modified_at"].timestamp() == 1e9
    assert rows["06.png"]["features"] == before["06.png"]["features"]
    same = set(before) - {"00.png", "06.png"}
    assert all(rows[name] == before[name] for name in same)
    assert run(spark, config).counts["skipped"] == COUNT + 2


@pytest.mark.slow
def test_modes_extract_failed_or_all_pictures_again(
    spark: SparkSession, config: ExtractConfig, pictures: Path
) -> None:
    config = replace(config, max_failed=1.0)
    (pictures / "cut.png").write_bytes((pictures / "00.png").read_bytes()[:50])
    run(spark, config)
    assert run(spark, config).details["tasks"] == 0
    again = run(spark, replace(config, mode="retry-failed"))
    assert again.details["planned"] == {"retried": 1, "skipped": COUNT}
    everything = run(spark, replace(config, mode="overwrite"))
    assert everything.details["planned"] == {"changed": COUNT + 1}
    assert everything.details["copied"] == 0  # another engine may be meant to make them
    assert len(rows_of(config)) == COUNT + 1


def test_transient_failures_are_retried_and_never_replace_an_ok_row(
    spark: SparkSession, config: ExtractConfig, pictures: Path, tmp_path: Path
) -> None:
    table = tmp_path / "uris.parquet"
    names = [str(pictures / f"{number:02d}.png") for number in range(COUNT)]
    pq.write_table(pa.table({"uri": names}), table)
    config = replace(
        config, input=str(table), uri_column="uri", allow_uri=(str(pictures),), max_failed=1.0
    )
    (pictures / "03.png").rename(tmp_path / "aside.png")
    first = run(spark, config)
    assert first.errors == {"not_found": 1}
    assert rows_of(config)["03.png"]["error"] == "not_found"
    (tmp_path / "aside.png").rename(pictures / "03.png")
    (pictures / "04.png").rename(tmp_path / "aside.png")
    second = run(spark, config)
    assert second.details["planned"]["retried"] == 1  # type: ignore[index]
    assert rows_of(config)["03.png"]["status"] == "ok"
    assert rows_of(config)["04.png"]["status"] == "ok"  # it was; that it is away does not undo it
    assert (second.counts["ok"], second.counts["failed"]) == (1, 1)
    assert second.counts["skipped"] == COUNT - 2  # looked at, found unchanged
    assert second.details["kept_ok_rows"] == 1


def test_columns_of_the_input_are_carried_and_updated_without_inference(
    spark: SparkSession, config: ExtractConfig, pictures: Path, tmp_path: Path
) -> None:
    table = tmp_path / "uris.parquet"
    names = [str(pictures / f"{number:02d}.png") for number in range(COUNT)]
    stamps = [Path(name).stat().st_size for name in names]

    def write(labels: list[str]) -> None:
        pq.write_table(
            pa.table(
                {
                    "uri": names,
                    "etag": [str(stamp) for stamp in stamps],
                    "label": labels,
                    "tags": [[{"k": label, "n": [1, 2]}] for label in labels],
                }
            ),
            table,
        )

    write(["tram"] * COUNT)
    config = replace(
        config, input=str(table), uri_column="uri", etag_column="etag", allow_uri=(str(pictures),)
    )
    run(spark, config)
    assert rows_of(config)["01.png"]["meta"] == {
        "label": "tram",
        "tags": [{"k": "tram", "n": [1, 2]}],
    }
    before = rows_of(config)
    write(["bus", *["tram"] * (COUNT - 1)])
    report = run(spark, config)
    after = rows_of(config)
    assert (report.details["tasks"], report.details["meta_updated"]) == (0, 1)
    assert after["00.png"]["meta"] == {"label": "bus", "tags": [{"k": "bus", "n": [1, 2]}]}
    assert after["00.png"]["features"] == before["00.png"]["features"]
    assert {name for name in after if after[name] != before[name]} == {"00.png"}
    pq.write_table(pa.table({"uri": names, "other": [1] * COUNT}), table)
    with pytest.raises(UsageError, match="expected the columns that the table"):
        run(spark, replace(config, etag_column=None))


def test_gone_pictures_are_marked_only_with_prune_inside_the_scope_and_within_the_limit(
    spark: SparkSession, config: ExtractConfig, pictures: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    paint(elsewhere / "far.png", 99)
    run(spark, replace(config, input=(str(pictures), str(elsewhere))))
    (pictures / "02.png").unlink()
    assert run(spark, config).counts["gone"] == 0
    prune = replace(config, prune=True, prune_scope=str(pictures))
    refused = run(spark, replace(prune, max_gone=0.0))
    assert (refused.exit_code, refused.counts["gone"]) == (3, 0)
    assert "--max-gone" in str(refused.error)
    assert rows_of(config)["02.png"]["status"] == "ok"
    report = run(spark, prune)  # one is over 1 %, and few
    assert (report.exit_code, report.counts["gone"]) == (0, 1)
    row = rows_of(config)["02.png"]
    assert (row["status"], row["features"], row["run_id"]) == ("gone", None, report.run_id)
    assert rows_of(config)["far.png"]["status"] == "ok"
    assert run(spark, replace(prune, max_gone=0.0)).counts["gone"] == 0  # it is gone already
    paint(pictures / "02.png", 77)
    assert run(spark, config).counts["ok"] == 1
    assert rows_of(config)["02.png"]["features"] == [77, 0, 255]


def test_a_plan_reports_what_a_run_would_do_and_writes_nothing(
    spark: SparkSession, config: ExtractConfig, pictures: Path
) -> None:
    plan = run(spark, replace(config, plan=True))
    assert plan.details["to_extract"] == COUNT
    assert plan.details["bytes"] == sum(path.stat().st_size for path in pictures.iterdir())
    assert plan.details["estimated_core_hours"] > 0  # type: ignore[operator]
    assert not Path(config.output).exists()
    run(spark, config)
    files = sorted(path for path in Path(config.output).rglob("*"))
    paint(pictures / "new.png", 201)
    plan = run(spark, replace(config, plan=True))
    assert plan.details["planned"] == {"new": 1, "skipped": COUNT}
    assert sorted(path for path in Path(config.output).rglob("*")) == files


@pytest.mark.slow
def test_limit_sample_and_duplicates(
    spark: SparkSession, config: ExtractConfig, pictures: Path, tmp_path: Path
) -> None:
    assert run(spark, replace(config, limit=5)).counts["ok"] == 5
    sampled = replace(config, output=str(tmp_path / "sampled"), sample=0.5)
    some = run(spark, sampled).counts["ok"]
    assert 0 < some < COUNT
    assert run(spark, sampled).counts == {"ok": 0, "failed": 0, "skipped": some, "gone": 0}
    table = tmp_path / "twice.csv"
    table.write_text(f"id,uri\na,{pictures}/00.png\na,{pictures}/01.png\n")
    twice = replace(
        config,
        input=str(table), output=str(tmp_path / "twice"),
        uri_column="uri", id_column="id", allow_uri=(str(pictures),),
    )  # fmt: skip
    with pytest.raises(UsageError, match="expected each image_id once"):
        run(spark, twice)
    assert not Path(twice.output).exists()
    run(spark, replace(twice, on_duplicate="last"))
    assert rows_of(twice)["a"]["features"] == [1, 0, 255]


def test_the_next_run_continues_after_max_minutes(
    spark: SparkSession, config: ExtractConfig
) -> None:
    report = run(spark, replace(config, max_minutes=0.0))
    assert (report.exit_code, report.details["remaining"], report.counts["ok"]) == (0, COUNT, 0)
    assert run(spark, config).counts["ok"] == COUNT


def test_a_table_with_another_writer_is_not_changed(
    spark: SparkSession, config: ExtractConfig
) -> None:
    with (
        leased(config.output, run_id="other", job="extract-features"),
        pytest.raises(Pool3Error, match="run other of extract-features"),
    ):
        run(spark, config)
    assert run(spark, config).counts["ok"] == COUNT


def test_too_many_failures_are_a_gate_and_the_rows_are_committed(
    spark: SparkSession, config: ExtractConfig, pictures: Path
) -> None:
    for number in range(4):
        (pictures / f"{number:02d}.png").write_bytes(
            (pictures / "11.png").read_bytes()[: 40 + number]
        )
    (pictures / "notes.txt").write_text("no picture")
    report = run(spark, config)
    assert report.exit_code == 3
    assert "truncated 4" in str(report.error)
    assert "not_an_image" not in str(report.error)
    assert len(rows_of(config)) == COUNT + 1
    assert json.loads(report.to_json())["outcome"] == "gate"


@pytest.mark.slow
def test_suppressed_ids_are_never_extracted(
    spark: SparkSession, config: ExtractConfig, pictures: Path
) -> None:
    suppress(config.output, [str(pictures / "04.png")])
    assert run(spark, config).counts == {"ok": COUNT - 1, "failed": 0, "skipped": 1, "gone": 0}
    assert "04.png" not in rows_of(config)


@pytest.mark.slow
def test_thumbnails_and_the_largest_inputs(spark: SparkSession, config: ExtractConfig) -> None:
    report = run(spark, replace(config, thumbnails=8))
    assert all(row["thumbnail"][:2] == b"\xff\xd8" for row in rows_of(config).values())
    assert [set(entry) for entry in report.details["largest"]] == [{"uri", "bytes"}] * 5  # type: ignore[attr-defined]
