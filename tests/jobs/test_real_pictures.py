"""The whole path on real pictures: photos find themselves, odd files are rows."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

import pool3
from jobs import build_index, extract_features
from jobs.build_index import BuildConfig
from jobs.extract_features import ExtractConfig
from pool3.features.schema import PERMANENT_ERRORS

N_PHOTOS = 117

# Pillow fails at their text or colour profile; their pixels are whole.
DAMAGED_ELSEWHERE = {"png_decompression_dos.png", "unknown_compression_method.png"}

#: What Pillow's complaint in the manifest may rightly be called.
FITTING = {
    "open:DecompressionBombError": {"too_many_pixels"},
    "open:UnidentifiedImageError": {"not_an_image", "unsupported_format", "corrupt", "truncated"},
}
ANY_DAMAGE = {"corrupt", "truncated", "unsupported_format", "too_many_pixels"}


@pytest.fixture(scope="module")
def flowers(
    spark: SparkSession, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, pa.Table]:
    """The feature table of every third of 350 photos, and its content."""
    folder = tmp_path_factory.mktemp("flowers")
    (folder / "photos").mkdir()
    photos = sorted((shared_data / "flowers").rglob("*.jpg"))[::3]
    assert len(photos) == N_PHOTOS
    for number, photo in enumerate(photos):
        shutil.copyfile(photo, folder / "photos" / f"{number:03d} {photo.name}")
    report = extract_features.run(
        spark,
        ExtractConfig(
            input=str(folder / "photos"), output=str(folder / "features"), model="seeded"
        ),
    )
    assert report.counts == {"ok": N_PHOTOS, "failed": 0, "skipped": 0, "gone": 0}
    return folder, DeltaTable(str(folder / "features")).to_pyarrow_table()


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
def test_each_photo_finds_itself_first_and_far_before_the_second(
    spark: SparkSession, flowers: tuple[Path, pa.Table], metric: str
) -> None:
    folder, table = flowers
    assert table.num_rows == N_PHOTOS
    config = BuildConfig(
        features=str(folder / "features"),
        index=str(folder / metric),
        metric=metric,
        n_shards=3,
    )
    build_index.run(spark, config)
    index = pool3.open(config.index)
    content = dict(
        zip(table["image_id"].to_pylist(), table["content_sha256"].to_pylist(), strict=True)
    )
    vectors = np.array(table["features"].to_pylist(), np.float32)
    found, distances = index.search_batch(vectors, k=5)
    for image_id, ids, near in zip(table["image_id"].to_pylist(), found, distances, strict=True):
        own = [at for at, one in enumerate(ids) if content[one] == content[image_id]]
        assert own == list(range(len(own))), f"{image_id} does not come first"
        assert image_id in ids[own]
        assert near[own].max() <= 0.1 * near[len(own)], image_id
    for image_id in table["image_id"].to_pylist()[::40]:  # by path, through decoding and the model
        hits = index.search(image_id, k=3)
        assert content[hits.ids[0]] == content[image_id]
        assert hits.distances[0] <= 0.1 * hits.distances[-1]


def test_odd_files_are_one_row_each_as_the_manifest_says(
    spark: SparkSession, shared_data: Path, tmp_path: Path
) -> None:
    config = ExtractConfig(
        input=str(shared_data / "odd"), output=str(tmp_path / "features"), model="seeded"
    )
    report = extract_features.run(spark, config)
    rows = {
        row["uri"]: row
        for row in DeltaTable(config.output).to_pyarrow_table().drop(["features"]).to_pylist()
    }
    files = [path for path in (shared_data / "odd").rglob("*") if path.is_file()]
    assert set(rows) == {str(path) for path in files}
    assert report.counts["ok"] + report.counts["failed"] == len(files)
    with (shared_data / "MANIFEST.csv").open(encoding="utf-8", newline="") as manifest:
        expected = {
            str(shared_data / line["file"]): line["expect"]
            for line in csv.DictReader(manifest)
            if line["file"].startswith("odd/")
        }
    wrong = []
    for uri, expect in expected.items():
        row = rows[uri]
        if expect in ("", "open:DecompressionBombWarning"):
            continue
        whole = expect == "ok" or Path(uri).name in DAMAGED_ELSEWHERE
        fitting = {None} if whole else FITTING.get(expect, ANY_DAMAGE)
        if row["error"] not in fitting:
            wrong.append((uri, expect, row["error"], row["error_detail"]))
    assert not wrong
    failed = Counter(row["error"] for row in rows.values() if row["error"])
    assert dict(failed) == report.errors
    assert set(failed) <= PERMANENT_ERRORS
