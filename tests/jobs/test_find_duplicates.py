"""find-duplicates on real Spark: clusters against brute force, copies, chains, sheets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from PIL import Image
from pyspark.sql import SparkSession

from jobs import find_duplicates
from jobs.find_duplicates import run
from jobs.options import shared
from jobs.options.find_duplicates import DuplicatesConfig
from pool3.search.duplicates import cluster_id
from pool3.vectors.distances import distances
from tests.small_index import build_index

THRESHOLD = 0.02


def chain_and_clumps(n: int) -> np.ndarray:
    """Steps of 0.013 each along an arc, clumps, and rows that are alone."""
    random = np.random.default_rng(4)
    step = np.arccos(1 - 0.013)
    angles = step * np.arange(12)
    chain = np.zeros((12, 32))
    chain[:, 0], chain[:, 1] = np.cos(angles), np.sin(angles)
    centres = random.normal(size=(8, 32))
    clumps = centres[random.integers(8, size=n - 32)] + 0.1 * random.normal(size=(n - 32, 32))
    return np.concatenate([chain, clumps, random.normal(size=(20, 32))]).astype(np.float32)


def clusters_by_hand(
    ids: list[str], vectors: np.ndarray, contents: list[str]
) -> dict[str, tuple[str, float]]:
    """Greedy leaders in the order of ids over the first of each content, nearest leader wins."""
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    first = {contents[row]: row for row in reversed(order)}
    rows = [row for row in order if first[contents[row]] == row]
    far = {row: distances(vectors[row], vectors[rows], "angular") for row in rows}
    near = {
        row: [other for other, d in zip(rows, far[row], strict=True) if d <= THRESHOLD]
        for row in rows
    }
    leaders: list[int] = []
    for row in rows:
        if not set(near[row]) & set(leaders):
            leaders.append(row)
    found = {}
    for row in rows:
        best = min((far[row][rows.index(one)], ids[one]) for one in near[row] if one in leaders)
        found[row] = (best[1], float(best[0]))
    placed = {ids[row]: found[first[contents[row]]] for row in order}
    sizes = [leader for leader, _ in placed.values()]
    return {one: place for one, place in placed.items() if sizes.count(place[0]) > 1}


def clusters_of(table: str) -> dict[str, tuple[str, float]]:
    rows = DeltaTable(table).to_pyarrow_table().to_pylist()
    for row in rows:
        assert row["cluster_id"] == cluster_id(row["representative_id"])
    assert len({row["image_id"] for row in rows}) == len(rows)
    return {
        row["image_id"]: (row["representative_id"], row["distance_to_representative"])
        for row in rows
    }


@pytest.mark.slow
def test_clusters_are_those_of_brute_force(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "BYTES_A_MB", 1 << 10)
    vectors = chain_and_clumps(150)
    ids = [f"p{number * 7919 % 1000:03d}" for number in range(150)]
    contents = [f"{number:064d}" for number in range(150)]
    for copy, original in ((140, 3), (141, 3), (145, 149), (20, 60)):
        vectors[copy], contents[copy] = vectors[original], contents[original]
    uris = [str(tmp_path / f"{number}.png") for number in range(150)]
    Image.new("RGB", (20, 20), (9, 200, 9)).save(uris[3])
    metadata = pa.table({"content_sha256": contents, "uri": uris})
    expected = clusters_by_hand(ids, vectors, contents)
    directory = build_index(
        tmp_path / "index", vectors, ids=ids, n_shards=4, metadata=metadata, vectors_dtype="float32"
    )
    config = DuplicatesConfig(
        index=str(directory), output=str(tmp_path / "duplicates"), threshold=THRESHOLD,
        sheet_dir=str(tmp_path / "sheets"), sheets=2, max_task_mb=60,
    )  # fmt: skip
    report = run(spark, config)
    found = clusters_of(config.output)
    assert {one: leader for one, (leader, _) in found.items()} == {
        one: leader for one, (leader, _) in expected.items()
    }
    np.testing.assert_allclose(
        [found[one][1] for one in sorted(found)],
        [expected[one][1] for one in sorted(found)],
        atol=1e-9,
    )
    assert max(far for _, far in found.values()) <= THRESHOLD
    leaders = [leader for leader, _ in expected.values()]
    chain = {expected[ids[number]][0] for number in range(12)}
    assert len(chain) >= 4, "a chain is several clusters"
    assert report.details["identical"] == 4
    assert report.details["pictures"] == len(expected)
    assert report.details["clusters"] == len(set(leaders))
    largest = report.details["largest"][0]  # type: ignore[index]
    assert largest["pictures"] == max(map(leaders.count, leaders))
    assert (report.warnings, report.details["unfinished"]) == ([], 0)
    names = sorted(path.name for path in (tmp_path / "sheets").iterdir())
    assert names[0] == f"001-{cluster_id(largest['representative_id'])}.png"
    assert len(names) == 2
    assert Image.open(tmp_path / "sheets" / names[0]).width > 500


@pytest.mark.slow
def test_searches_that_reach_the_limit_are_told(spark: SparkSession, tmp_path: Path) -> None:
    vectors = np.concatenate([np.ones((30, 4)), np.eye(4)])
    directory = build_index(tmp_path / "index", vectors)
    config = DuplicatesConfig(index=str(directory), output=str(tmp_path / "out"), max_neighbours=10)
    report = run(spark, config)
    assert report.details["unfinished"] == 30
    assert "30 pictures have 10" in report.warnings[0]
    assert {leader for leader, _ in clusters_of(config.output).values()} >= {"id000000"}
    assert len(clusters_of(config.output)) == 30


def test_without_duplicates_the_table_is_empty_and_dot_is_refused(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, dot, out = (str(tmp_path / name) for name in ("index", "dot", "out"))
    build_index(Path(index), np.eye(5))
    build_index(Path(dot), np.eye(5), metric="dot")
    assert find_duplicates.main(["--index", dot, "--output", out]) == 2
    assert "found dot" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert not Path(out).exists()
    assert find_duplicates.main(["--index", index, "--output", out]) == 0
    assert clusters_of(out) == {}
    assert find_duplicates.main(["--index", index, "--output", out, "--threshold", "-1"]) == 2
