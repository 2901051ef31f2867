"""evaluate-index on real Spark, against brute force and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs import evaluate_index
from jobs.evaluate_index import run
from jobs.options.evaluate_index import EvaluateConfig
from tests.jobs.test_build_index import varied_vectors
from tests.small_index import build_index
from tests.tombstones import add_tombstones

N = 240


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three shards; the label is the sign of the first number; a third of one shard is dead."""
    vectors = varied_vectors(N)
    labels = ["plus" if vector[0] > 0 else "minus" for vector in vectors]
    directory = tmp_path_factory.mktemp("index") / "index"
    metadata = pa.table({"label": labels})
    build_index(directory, vectors, n_shards=3, n_trees=3, metadata=metadata)
    add_tombstones(directory, {1: range(0, 80, 3)})
    return str(directory)


def evaluated(spark: SparkSession, **options: Any) -> dict[str, Any]:
    report = run(spark, EvaluateConfig(**options))
    return {**report.details, "exit_code": report.exit_code, "counts": report.counts}


def test_searching_little_finds_less_and_the_gate_holds(spark: SparkSession, index: str) -> None:
    little = evaluated(spark, index=index, sample=60, rerank=10, search_k=3, min_recall=1)
    assert set(little["recall"]) == {"1", "10"}  # 100 of 10 candidates is no search
    assert little["recall"]["10"]["queries"] == 60
    assert 0.5 < little["recall"]["10"]["mean"] < 1
    assert little["exit_code"] == 3


def test_recall_and_labels_against_brute_force(
    spark: SparkSession, index: str, tmp_path: Path
) -> None:
    """Held-out queries, some of which are rows of the index and must not find themselves."""
    vectors = varied_vectors(N)
    queries = np.concatenate([varied_vectors(20, seed=5), vectors[:20]])
    ids = [f"new {number}" for number in range(20)] + [f"id{number:06d}" for number in range(20)]
    labels = ["plus" if vector[0] > 0 else "minus" for vector in queries]
    (tmp_path / "q").mkdir()
    table = pa.table({"image_id": ids, "features": queries.tolist(), "label": labels})
    pq.write_table(table, tmp_path / "q" / "one.parquet")
    found = evaluated(
        spark, index=index, queries=str(tmp_path / "q"), labels="label", rerank=N, search_k=10**6
    )
    assert found["recall"]["100"]["mean"] == 1
    assert found["counts"]["ok"] == 40

    units = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = sorted(range(N), key=lambda row: f"id{row:06d}")
    dead = {row for at, row in enumerate(row for row in order if row % 3 == 1) if at % 3 == 0}
    precisions = []
    for own, query, label in zip(ids, queries.astype(np.float64), labels, strict=True):
        far = 1 - units @ (query / np.linalg.norm(query))
        near = [
            row for row in np.argsort(far) if row not in dead and f"id{row:06d}" != own
        ][:10]  # fmt: skip
        precisions.append(
            np.mean([("plus" if vectors[r][0] > 0 else "minus") == label for r in near])
        )
    assert found["precision"]["10"]["mean"] == pytest.approx(np.mean(precisions), abs=0.01)
    assert 0 < found["map@100"]["mean"] < found["precision"]["10"]["mean"]


@pytest.mark.slow
def test_main_writes_its_report_beside_the_index(
    spark: SparkSession, index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--index", index, "--sample", "5", "--labels", "colour", "--snapshot", "1"]
    assert evaluate_index.main(words) == 2
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "--labels names the column 'colour'" in report["error"]
    assert evaluate_index.main([*words[:4], "--snapshot", "1"]) == 0
    report = json.loads(Path(f"{index}.evaluation.report.json").read_text())
    assert (report["snapshot_id"], report["rows"], report["counts"]["ok"]) == (1, N, 5)
    assert evaluate_index.main(["--index", index, "--snapshot", "9"]) == 2
    assert evaluate_index.main(["--index", index, "--min-recall", "1.5"]) == 2
