"""The whole corpus in the real job: one row per file, limited time and memory."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from PIL import Image
from pyspark.sql import SparkSession

from jobs import extract_features
from jobs.extract_features import ExtractConfig
from jobs.runtime.report import Report
from pool3.features.schema import PERMANENT_ERRORS
from pool3.gallery import draw_scene
from tests.hostile.corpus import not_utf_8, write
from tests.hostile.made import Made, saved
from tests.hostile.memory import PeakMemory
from tests.jobs.colour_model import SIDE

SECONDS, BYTES = 300, 1_000_000_000
ODD = Path(__file__).resolve().parents[3] / "shared" / "data" / "odd"
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Run:
    """The corpus after its extraction."""

    files: dict[bytes, Made]
    odd: set[str]
    rows: list[dict[str, object]]
    report: Report
    seconds: float
    memory: PeakMemory


def rows_of(table: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = DeltaTable(table).to_pyarrow_table().to_pylist()
    return rows


@pytest.fixture(scope="module")
def corpus(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, colour_model: str) -> Run:
    folder = tmp_path_factory.mktemp("hostile")
    files = write(folder / "corpus")
    odd = {str(path) for path in ODD.rglob("*") if path.is_file()}
    inputs = [str(folder / "corpus"), *([str(ODD)] if odd else [])]
    config = ExtractConfig(
        input=inputs,
        output=str(folder / "features"),
        model=colour_model,
        max_failed=1.0,
        timeout_s=10.0,
        thumbnails=32,
    )
    started = time.monotonic()
    with PeakMemory() as memory:
        report = extract_features.run(spark, config)
    seconds = time.monotonic() - started
    return Run(files, odd, rows_of(config.output), report, seconds, memory)


def test_each_file_is_one_row_with_the_code_that_fits(corpus: Run) -> None:
    rows = {str(row["uri"]): row for row in corpus.rows}
    assert len(rows) == len(corpus.rows)
    assert set(rows) == {os.fsdecode(path) for path in corpus.files} | corpus.odd
    wrong = [
        (path, sorted(map(str, one.codes)), row["error"], row["error_detail"])
        for path, one in corpus.files.items()
        if (row := rows[os.fsdecode(path)])["error"] not in one.codes
    ]
    assert not wrong


def test_a_row_is_whole_whatever_became_of_its_file(corpus: Run) -> None:
    for row in corpus.rows:
        ok = row["error"] is None
        assert row["status"] == ("ok" if ok else "failed")
        assert (row["features"] is not None) == ok
        assert (row["thumbnail"] is not None) == ok
        assert ok or row["error_detail"]  # an ok row names damage outside of its pixels
        if ok:
            assert np.isfinite(row["features"]).all()


def test_the_report_counts_what_the_table_holds(corpus: Run) -> None:
    failed = Counter(row["error"] for row in corpus.rows if row["error"] is not None)
    assert dict(failed) == corpus.report.errors
    assert set(failed) <= PERMANENT_ERRORS
    ok = len(corpus.rows) - failed.total()
    assert corpus.report.counts == {"ok": ok, "failed": failed.total(), "skipped": 0, "gone": 0}


def test_it_stays_within_its_time_and_memory(corpus: Run) -> None:
    assert corpus.seconds < SECONDS
    assert len(corpus.memory.bytes) >= 3  # a daemon, a worker, a decoder
    assert max(corpus.memory.bytes.values()) < BYTES


def test_names_that_are_not_utf_8_are_one_row_each(
    spark: SparkSession, tmp_path: Path, colour_model: str
) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    files = list(not_utf_8())
    for one in files:
        try:
            (folder / os.fsdecode(one.name)).write_bytes(one.data)
        except OSError:
            pytest.skip("this file system holds no such names")
    config = ExtractConfig(input=str(folder), output=str(tmp_path / "features"), model=colour_model)
    extract_features.run(spark, config)
    found = {str(row["uri"]): row["error"] for row in rows_of(config.output)}
    names = {one.name.decode("utf-8", "backslashreplace"): None for one in files}
    assert found == {f"{folder}/{name}": error for name, error in names.items()}


def test_a_decoder_that_crashes_spins_or_grows_costs_its_row_alone(
    spark: SparkSession, tmp_path: Path, colour_model: str
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    faults = {
        "segfault": (b"signal:11", "decoder_crashed"),
        "abort": (b"signal:6", "decoder_crashed"),
        "killed": (b"signal:9", "decoder_crashed"),
        "exit": (b"exit:0", "decoder_crashed"),
        "garbage": (b"garbage", "decoder_crashed"),
        "spin": (b"spin", "timeout"),
        "sleep": (b"sleep:600", "timeout"),
        "memory": (b"memory:5000000000", "too_many_pixels"),
    }
    for number, (name, (order, _)) in enumerate(faults.items()):
        (folder / f"{number}-{name}").write_bytes(order)
        colour = Image.new("RGB", (SIDE, SIDE), (number, 0, 255))
        (folder / f"{number}.png").write_bytes(saved(colour, "PNG"))
    config = ExtractConfig(
        input=str(folder),
        output=str(tmp_path / "features"),
        model=colour_model,
        max_failed=1.0,
        timeout_s=2.0,
        decode_function="tests.pool3.images.decoder_faults:faulty",
    )
    started = time.monotonic()
    report = extract_features.run(spark, config)
    assert time.monotonic() - started < 60
    rows = {Path(str(row["uri"])).name: row for row in rows_of(config.output)}
    assert len(rows) == 2 * len(faults)
    for number, (name, (_, code)) in enumerate(faults.items()):
        assert rows[f"{number}-{name}"]["error"] == code, name
        assert rows[f"{number}.png"]["features"] == [number, 0, 255]
    assert report.counts["ok"] == report.counts["failed"] == len(faults)


def oriented(folder: Path) -> None:
    """One picture in all eight orientations, told and untold, and others to centre with."""
    scene = draw_scene(7, size=(320, 240))
    for orientation, turn in TURNS.items():
        stored = scene if turn is None else scene.transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind, options in (("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {})):
            told = saved(stored, kind, exif=exif.tobytes(), **options)
            (folder / f"told-{orientation}.{kind}").write_bytes(told)
        (folder / f"untold-{orientation}.PNG").write_bytes(saved(stored, "PNG"))
    for number in range(20, 36):
        (folder / f"other-{number}").write_bytes(saved(draw_scene(number), "PNG"))


def test_all_eight_orientations_of_a_picture_have_the_same_features(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    oriented(folder)
    config = ExtractConfig(input=str(folder), output=str(tmp_path / "features"), model="seeded")
    extract_features.run(spark, config)
    table = DeltaTable(config.output).to_pyarrow_table()
    features = _features(table)
    others = [vector for name, vector in features.items() if name.startswith("other-")]
    centre = np.mean(others, axis=0)

    def difference(name: str, upright: np.ndarray) -> float:
        """How far from the upright picture, where 1 is as far as that is from the middle."""
        apart = np.linalg.norm(features[name] - upright)
        return float(apart / np.linalg.norm(upright - centre))

    for kind in ("JPEG", "PNG"):
        upright = features[f"told-1.{kind}"]
        for orientation in range(2, 9):
            assert difference(f"told-{orientation}.{kind}", upright) <= 0.05, (orientation, kind)
            # the yardstick sees a picture that is not turned
            assert difference(f"untold-{orientation}.PNG", upright) > 0.2, orientation


def _features(table: pa.Table) -> dict[str, np.ndarray]:
    names = [Path(uri).name for uri in table["uri"].to_pylist()]
    vectors = np.array(table["features"].to_pylist(), np.float64)
    return dict(zip(names, vectors, strict=True))
