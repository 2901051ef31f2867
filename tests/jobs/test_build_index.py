"""build-index on foreign tables: sharding changes nothing, and bad rows are counted and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import pool3
from jobs import build_index
from jobs.build_index import BuildConfig, run
from pool3.errors import UsageError
from pool3.index.snapshots.publication import read_manifest

DIMENSION = 160


def write_table(folder: Path, ids: list[str], vectors: np.ndarray, n_files: int = 3) -> str:
    folder.mkdir(parents=True)
    for number, rows in enumerate(np.array_split(np.arange(len(ids)), n_files)):
        table = pa.table(
            {
                "image_id": [ids[row] for row in rows],
                "features": pa.array(vectors[rows].tolist(), pa.list_(pa.float32())),
                "label": [f"class {row % 5}" for row in rows],
            }
        )
        pq.write_table(table, folder / f"part-{number}.parquet")
    return str(folder)


def varied_vectors(n: int, seed: int = 7) -> np.ndarray:
    """Clustered vectors of norms from 0.1 to 10, some of them equal to each other."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(12, DIMENSION))
    vectors = centres[random.integers(12, size=n)] + 0.3 * random.normal(size=(n, DIMENSION))
    vectors *= np.exp(random.uniform(-2.3, 2.3, size=(n, 1)))
    vectors[n // 2] = vectors[n // 3]
    return vectors.astype(np.float32)


def brute_force(
    ids: list[str], vectors: np.ndarray, query: np.ndarray, metric: str, k: int
) -> list[str]:
    rows, wanted = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        distances = np.linalg.norm(rows - wanted, axis=1)
    elif metric == "dot":
        distances = -(rows @ wanted)
    else:
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        distances = 0.5 * ((units - wanted / np.linalg.norm(wanted)) ** 2).sum(axis=1)
    order = sorted(range(len(ids)), key=lambda row: (round(distances[row], 12), ids[row]))
    return [ids[row] for row in order[:k]]


@pytest.mark.parametrize("metric", ["angular", "euclidean", "dot"])
@pytest.mark.parametrize(("n_rows", "shards"), [(200, (1, 5)), (9, (7,))])
def test_sharding_changes_nothing(
    spark: SparkSession, tmp_path: Path, metric: str, n_rows: int, shards: tuple[int, ...]
) -> None:
    ids = [f"picture {n * 7919 % 1000:03d}" for n in range(n_rows)]
    vectors = varied_vectors(n_rows)
    features = write_table(tmp_path / "features", ids, vectors)
    for n_shards in shards:
        config = BuildConfig(
            features=features,
            index=str(tmp_path / f"index-{n_shards}"),
            metric=metric,
            n_shards=n_shards,
            vectors_dtype="float32",
        )
        report = run(spark, config)
        assert sum(report.details["shards"]) == n_rows  # type: ignore[call-overload]
        assert len(report.details["shards"]) == n_shards  # type: ignore[arg-type]
        index = pool3.open(config.index)
        for row in range(0, n_rows, 13):
            hits = index.search(vectors[row], k=10, search_k=10**7, rerank=max(n_rows, 10))
            assert list(hits.ids) == brute_force(ids, vectors, vectors[row], metric, 10)


def test_rows_that_cannot_be_indexed_are_counted_and_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    good = [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [0.0, 1.0, 0.0]]
    bad = [None, [1.0], [1.0, float("nan"), 0.0], [float("inf"), 0.0, 0.0], [0.0, 0.0, 0.0]]
    ids = ["a", "b", "c", "null", "short", "nan", "inf", "zero", None, "", ""]
    (tmp_path / "features").mkdir()
    table = pa.table({"image_id": ids, "features": pa.array([*good, *bad, *[[5.0, 5.0, 1.0]] * 3])})
    pq.write_table(table, tmp_path / "features" / "one.parquet")
    config = BuildConfig(features=str(tmp_path / "features"), index=str(tmp_path / "index"))
    report = run(spark, config)
    assert report.counts == {"ok": 3, "failed": 8, "skipped": 0, "gone": 0}
    assert report.errors == {
        "null_vector": 1, "wrong_length": 1, "not_finite": 2, "zero_vector": 1, "null_id": 1,
        "empty_id": 2,
    }  # fmt: skip
    named = report.details["left_out"]
    assert named["not_finite"] == ["nan", "inf"]  # type: ignore[index]
    assert sorted(pool3.open(config.index).search(np.ones(3), k=10).ids) == ["a", "b", "c"]


def test_ids_that_stand_twice_are_refused_and_nothing_is_written(
    spark: SparkSession, tmp_path: Path
) -> None:
    features = write_table(tmp_path / "f", ["a", "b", "a"], varied_vectors(3))
    with pytest.raises(UsageError, match="'a'"):
        run(spark, BuildConfig(features=features, index=str(tmp_path / "index")))
    assert not (tmp_path / "index").exists()


def test_the_second_build_is_the_next_snapshot_and_the_first_stays(
    spark: SparkSession, tmp_path: Path
) -> None:
    vectors = varied_vectors(40)
    ids = [f"{n:02d}" for n in range(40)]
    features = write_table(tmp_path / "f", ids[:30], vectors[:30])
    config = BuildConfig(features=features, index=str(tmp_path / "index"), n_shards=2)
    first = run(spark, config)
    reader = pool3.open(config.index)
    write_table(tmp_path / "more", ids[30:], vectors[30:], 1)
    (tmp_path / "more" / "part-0.parquet").rename(tmp_path / "f" / "part-9.parquet")
    second = run(spark, config)
    assert (first.details["snapshot_id"], second.details["snapshot_id"]) == (1, 2)
    assert second.counts == {"ok": 10, "failed": 0, "skipped": 30, "gone": 0}
    assert reader.search(vectors[3], k=1).snapshot_id == 1
    assert pool3.open(config.index).search(vectors[33], k=1).ids[0] == "33"
    assert pool3.open(config.index, snapshot=1).search(vectors[3], k=1).ids[0] == "03"


def test_the_same_rows_and_seed_give_the_same_files(spark: SparkSession, tmp_path: Path) -> None:
    vectors, ids = varied_vectors(60), [f"{n:02d}" for n in range(60)]
    one = write_table(tmp_path / "one", ids, vectors, 1)
    four = write_table(tmp_path / "four", ids, vectors, 4)
    digests = []
    for number, features in enumerate((one, one, four)):
        config = BuildConfig(features=features, index=str(tmp_path / f"i-{number}"), n_shards=2)
        run(spark, config)
        shards = read_manifest(config.index, 1).shards
        digests.append(
            [{kind: file.sha256 for kind, file in shard.files.items()} for shard in shards]
        )
    for first, again, other in zip(*digests, strict=True):
        assert {**first, "evidence": ""} == {**again, "evidence": ""}  # evidence tells seconds
        # Sums over files in another order give a PCA with other last bits, and so other trees.
        assert [first[kind] for kind in ("ids", "vectors", "metadata")] == [
            other[kind] for kind in ("ids", "vectors", "metadata")
        ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"metric": "cosine"}, "--metric"),
        ({"n_trees": 0}, "--n-trees"),
        ({"n_shards": 0}, "--n-shards"),
        ({"seed": -1}, "--seed"),
        ({"index": "http://x/y"}, "http"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        BuildConfig(**{"features": "f", "index": "i", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("files", "told"),
    [({}, "no.*feature table|found none"), ({"notes.txt": b"hello"}, "found none")],
)
def test_what_is_not_a_table_is_told(
    spark: SparkSession, tmp_path: Path, files: dict[str, bytes], told: str
) -> None:
    (tmp_path / "f").mkdir()
    for name, data in files.items():
        (tmp_path / "f" / name).write_bytes(data)
    with pytest.raises(UsageError, match=told):
        run(spark, BuildConfig(features=str(tmp_path / "f"), index=str(tmp_path / "index")))
    assert not (tmp_path / "index").exists()


def test_main_reports_wrong_arguments(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = build_index.main(["--features", "f", "--index", "i", "--metric", "cosine"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (status, report["outcome"], report["exit_code"]) == (2, "usage", 2)
    assert "cosine" in report["error"]
