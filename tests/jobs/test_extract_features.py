"""extract-features on real Spark: one row per input, one load per worker, one commit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable
from PIL import Image
from pyspark.sql import SparkSession

from jobs import extract_features
from jobs.extract_features import ExtractConfig, run
from pool3.errors import ModelError, UsageError
from pool3.extract import layout
from tests.jobs.colour_model import colour_graph, write_model
from tests.jobs.conftest import NAMES


def rows_of(table: str) -> dict[str, dict[str, object]]:
    rows = DeltaTable(table).to_pyarrow_table().to_pylist()
    by_id = {row["image_id"]: row for row in rows}
    assert len(by_id) == len(rows), "an image_id stands more than once"
    return by_id


@pytest.fixture
def config(photos: Path, tmp_path: Path, colour_model: str) -> ExtractConfig:
    return ExtractConfig(input=str(photos), output=str(tmp_path / "features"), model=colour_model)


def test_every_input_is_one_row(spark: SparkSession, config: ExtractConfig) -> None:
    report = run(spark, config)
    rows = rows_of(config.output)
    assert set(rows) == {f"{config.input}/{name}" for name in [*NAMES, "empty.jpg", "notes.txt"]}
    for number, name in enumerate(NAMES):
        row = rows[f"{config.input}/{name}"]
        assert (row["status"], row["error"], row["format"]) == ("ok", None, "PNG")
        assert row["features"] == [number * 20, 0, 255]
        assert (row["width"], row["height"]) == (30 + number, 20)
        assert row["run_id"] == report.run_id
        assert f"{row['engine']} {row['precision']}" in report.details["engines"]
    assert rows[f"{config.input}/empty.jpg"]["error"] == "empty"
    assert rows[f"{config.input}/notes.txt"]["error"] == "not_an_image"
    assert report.counts == {"ok": len(NAMES), "failed": 2, "skipped": 0, "gone": 0}
    assert report.errors == {"empty": 1, "not_an_image": 1}
    assert report.details["set_aside"] == {"dot_name": 1, "bookkeeping": 1}
    assert report.steady_images_per_s
    assert report.steady_images_per_s > 0


def test_a_worker_loads_the_model_once_however_many_tasks_it_runs(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(150):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    model = str(write_model(tmp_path / "model", colour_graph(also="Identity"), "counted colours"))
    monkeypatch.setattr(layout, "FEWEST_PICTURES", 10)
    report = run(
        spark,
        ExtractConfig(input=str(tmp_path / "photos"), output=str(tmp_path / "table"), model=model),
    )
    assert report.details["tasks"] == 8
    assert 1 <= report.details["workers"] <= 2  # type: ignore[operator]
    assert report.details["model_loads"] == report.details["workers"]


def test_a_second_run_replaces_its_own_rows_only(
    spark: SparkSession, config: ExtractConfig, photos: Path
) -> None:
    first = run(spark, config)
    before = rows_of(config.output)
    changed, vanished = photos / "a#b.jpg", photos / "100%.jpg"
    Image.new("RGB", (5, 5), (1, 2, 3)).save(changed, "PNG")
    vanished.unlink()
    sub = ExtractConfig(input=str(photos / "a#b.jpg"), output=config.output, model=config.model)
    report = run(spark, sub)
    rows = rows_of(config.output)
    assert set(rows) == set(before)
    assert rows[str(changed)]["features"] == [1, 2, 3]
    assert rows[str(changed)]["run_id"] == report.run_id
    others = {uri: row for uri, row in rows.items() if uri != str(changed)}
    assert all(row == before[uri] for uri, row in others.items())
    assert (first.details["table_version"], report.details["table_version"]) == (0, 1)
    assert len(DeltaTable(config.output, version=0).to_pyarrow_table()) == len(before)


def test_another_model_is_refused(
    spark: SparkSession, config: ExtractConfig, tmp_path: Path
) -> None:
    run(spark, config)
    other = str(write_model(tmp_path / "other", colour_graph(), "other colours"))
    with pytest.raises(UsageError, match="expected model"):
        run(spark, ExtractConfig(input=config.input, output=config.output, model=other))
    assert DeltaTable(config.output).version() == 0


def test_a_graph_that_reads_files_is_refused_and_nothing_is_written(
    spark: SparkSession, config: ExtractConfig, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "evil", colour_graph(also="ReadFile"), "evil")
    with pytest.raises(ModelError, match="ReadFile"):
        run(spark, ExtractConfig(input=config.input, output=config.output, model=str(model)))
    assert not Path(config.output).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--input", "nowhere-at-all"], "nowhere-at-all"),
        (["--input", "EMPTY"], "it is empty"),
        (["--model", "resnet"], "resnet"),
        (["--batch-size", "0"], "--batch-size"),
        (["--max-pixels", "many"], "--max-pixels"),
        (["--input", "http://x/y"], "http"),
    ],
)
def test_wrong_arguments_end_with_2_and_write_nothing(
    spark: SparkSession,
    config: ExtractConfig,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    change: list[str],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    options = {"--input": config.input, "--output": config.output, "--model": config.model}
    options[change[0]] = change[1].replace("EMPTY", str(tmp_path / "empty"))
    argv = [word for option in options.items() for word in option]
    assert extract_features.main(argv) == 2
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert message in report["error"]
    assert not Path(config.output).exists()
    assert not Path(config.output + ".report.json").exists()
