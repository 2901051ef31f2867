"""search-batch on real Spark: the answers of the query module, one row a hit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from PIL import Image
from pyspark.sql import SparkSession

import pool3
from jobs import search_batch
from jobs.options import shared
from jobs.options.search_batch import SearchConfig
from jobs.search_batch import run
from pool3.errors import UsageError
from pool3.models.directory import copy_model, read_model
from tests.jobs.test_build_index import varied_vectors
from tests.small_index import build_index
from tests.tombstones import add_tombstones


def write_queries(folder: Path, ids: list[str | None], vectors: list[object]) -> str:
    folder.mkdir()
    table = pa.table({"query_id": ids, "features": pa.array(vectors, pa.list_(pa.float32()))})
    for number, start in enumerate(range(0, len(ids), 40)):
        pq.write_table(table.slice(start, 40), folder / f"{number}.parquet")
    return str(folder)


def answers_of(table: str, version: int | None = None) -> dict[str, list[tuple[str, float]]]:
    rows = DeltaTable(table, version=version).to_pyarrow_table().to_pylist()
    answers: dict[str, list[tuple[str, float]]] = {}
    for row in sorted(rows, key=lambda row: (row["query_id"], row["rank"])):
        hits = answers.setdefault(row["query_id"], [])
        hits.append((row["image_id"], row["distance"]))
        assert row["rank"] == len(hits)
    return answers


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rows in 5 shards, every other row of one of them dead."""
    directory = tmp_path_factory.mktemp("index") / "index"
    build_index(directory, varied_vectors(300), n_shards=5)
    add_tombstones(directory, {2: range(0, 60, 2)})
    return directory


def test_the_answers_are_those_of_the_query_module(
    spark: SparkSession, tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "BYTES_A_MB", 1 << 10)
    queries = varied_vectors(90, seed=11)
    ids = [f"q {number}" for number in range(90)]
    folder = write_queries(tmp_path / "queries", list(ids), queries.tolist())
    config = SearchConfig(
        index=str(index), queries=folder, output=str(tmp_path / "answers"), k=7, max_task_mb=100
    )
    report = run(spark, config)
    assert report.details["groups"] > 1  # type: ignore[operator]
    expected_ids, expected = pool3.open(index).search_batch(queries, k=7)
    found = answers_of(config.output)
    for query, image_ids, distances in zip(ids, expected_ids, expected, strict=True):
        assert found.pop(query) == list(zip(image_ids, distances, strict=True))
    assert not found
    assert report.counts == {"ok": 90, "failed": 0, "skipped": 0, "gone": 0}
    row = DeltaTable(config.output).to_pyarrow_table().slice(0, 1).to_pylist()[0]
    assert (row["snapshot_id"], row["run_id"], row["model_id"]) == (2, report.run_id, None)


def test_a_second_run_takes_the_place_of_the_first(
    spark: SparkSession, tmp_path: Path, index: Path
) -> None:
    bad = [None, [1.0, 2.0], [float("nan")] * 160, [0.0] * 160]
    good = varied_vectors(2).tolist()
    folder = write_queries(
        tmp_path / "q", ["null", "short", "nan", "zero", "a", None, "", ""], [*bad, *good, *good]
    )
    config = SearchConfig(
        index=str(index), queries=folder, output=str(tmp_path / "answers"), k=500, max_failed=1
    )
    first = run(spark, config)
    assert first.exit_code == 0
    assert first.counts == {"ok": 1, "failed": 7, "skipped": 0, "gone": 0}
    assert first.errors == {
        "null_vector": 1, "wrong_length": 1, "not_finite": 1, "zero_vector": 1, "null_id": 1,
        "empty_id": 2,
    }  # fmt: skip
    assert first.details["failed"]["not_finite"] == ["nan"]  # type: ignore[index]
    assert len(answers_of(config.output)["a"]) == 270  # all live rows, and no more
    again = SearchConfig(**{**vars(config), "k": 2, "max_failed": 0.5})
    second = run(spark, again)
    assert (second.exit_code, "7 of 8" in str(second.error)) == (3, True)
    assert len(answers_of(config.output)["a"]) == 2
    assert len(answers_of(config.output, version=0)["a"]) == 270


def test_pictures_go_through_the_index_s_own_model(
    spark: SparkSession, tmp_path: Path, colour_model: str, photos: Path
) -> None:
    model = read_model(colour_model)
    copy = f"models/{model.model_id}"
    colours = np.array([[20 * number, 0, 255] for number in range(11)], np.float32)
    directory = build_index(
        tmp_path / "index", colours, n_shards=2, model=(model.model_id, copy), metric="euclidean"
    )
    copy_model(colour_model, str(directory / copy))
    Image.new("RGB", (30, 20), (0, 0, 255)).save(photos / "twin.png")
    config = SearchConfig(
        index=str(directory), queries=str(photos), output=str(tmp_path / "answers"), k=3,
        max_failed=0.1,
    )  # fmt: skip
    report = run(spark, config)
    index, found = pool3.open(directory), answers_of(config.output)
    for uri, hits in found.items():
        expected = index.search(uri, k=3)
        assert [image_id for image_id, _ in hits] == expected.ids
        np.testing.assert_allclose([far for _, far in hits], expected.distances, atol=1e-4)
    assert found[str(photos / "twin.png")] == found[str(photos / "_MG_0001.JPG")]
    assert report.counts == {"ok": 12, "failed": 2, "skipped": 0, "gone": 0}
    assert report.errors == {"empty": 1, "not_an_image": 1}
    assert report.exit_code == 0
    assert report.model_id == model.model_id


def test_what_cannot_be_asked_is_told_before_anything_is_written(
    spark: SparkSession, tmp_path: Path, index: Path, photos: Path
) -> None:
    good = write_queries(tmp_path / "good", ["a"], varied_vectors(1).tolist())
    other = tmp_path / "other"
    pq_table = pa.table({"x": [1]})
    DeltaTable.create(str(other), pq_table.schema)
    named = write_queries(tmp_path / "twice", ["a", "a"], varied_vectors(2).tolist())
    short = write_queries(tmp_path / "short", ["a"], [[1.0, 2.0]])
    for queries, output, told in (
        (good, other, "found x in"),
        (named, tmp_path / "out", "'a'"),
        (short, tmp_path / "out", "160 numbers"),
        (str(photos), tmp_path / "out", "without their model"),
        (str(tmp_path / "nowhere"), tmp_path / "out", "nowhere"),
    ):
        with pytest.raises(UsageError, match=told):
            run(spark, SearchConfig(index=str(index), queries=queries, output=str(output)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [(["-k", "0"], "-k"), (["--max-failed", "2"], "--max-failed"), (["--snapshot", "0"], "--snap")],
)
def test_wrong_options_are_told(
    capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    words = ["--index", "i", "--queries", "q", "--output", "o", *options]
    status = search_batch.main(words)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (status, report["outcome"]) == (2, "usage")
    assert told in report["error"]
