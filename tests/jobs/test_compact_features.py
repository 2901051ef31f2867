"""compact-features on real Spark: only files change, and erased ids are in no file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs import compact_features
from jobs.compact_features import run
from jobs.options.compact_features import CompactConfig
from jobs.steps.features import compact
from pool3 import storage
from pool3.errors import Pool3Error, StorageError, UsageError
from pool3.features.lease import leased
from pool3.features.suppression import is_suppressed, read_suppressed
from tests.pool3.features.small_tables import opened, put, row, write_part

SECRET = "/photos/s\N{LATIN SMALL LETTER E WITH ACUTE}cret person.jpg"


def rows_of(uri: str, version: int | None = None) -> list[dict[str, object]]:
    table = DeltaTable(uri, version=version).to_pyarrow_table()
    return table.sort_by("image_id").to_pylist()  # type: ignore[no-any-return]


def age(path: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A table of twelve small files, four of them removed, and one file of a killed run."""
    uri = str(tmp_path / "features")
    files = [write_part(uri, [row(f"{n:02d}"), row(f"{n + 20:02d}")]) for n in range(8)]
    old = [write_part(uri, [row(f"{n:02d}")]) for n in range(4)]
    put(uri, [*old, *files[4:]])
    put(uri, files[:4], old)
    write_part(uri, [row("orphan")])
    return uri


def parquet_below(uri: str) -> set[str]:
    return {path.name for path in Path(uri).glob("*.parquet")}


def test_small_files_become_one_and_no_row_changes(spark: SparkSession, uri: str) -> None:
    before, on_disk = rows_of(uri), parquet_below(uri)
    report = run(spark, CompactConfig(table=uri))
    assert rows_of(uri) == before
    table = opened(uri)
    assert len(table.files) == 1
    assert table.files[0].rows == 16
    ids = pq.read_table(table.file_uri(table.files[0]), columns=["image_id"])[0].to_pylist()
    assert ids == sorted(ids)
    assert report.details["files"] == {"before": 8, "after": 1}
    assert report.details["merged"] == {"files": 8, "into": 1}
    assert report.counts == {"ok": 16, "failed": 0, "skipped": 0, "gone": 0}
    log = (Path(uri) / "_delta_log" / f"{2:020d}.json").read_text().splitlines()
    changes = [action for line in log for name, action in json.loads(line).items()
               if name in ("add", "remove")]  # fmt: skip
    assert len(changes) == 9
    assert not any(action["dataChange"] for action in changes), "no reader has to see them again"
    # Older versions can still be read.
    assert rows_of(uri, version=1) == before
    assert on_disk < parquet_below(uri)
    assert report.details["freed"] == {"files": 0, "bytes": 0}
    again = run(spark, CompactConfig(table=uri))
    assert again.details["merged"] == {"files": 0, "into": 0}
    assert again.details["table_version"] == report.details["table_version"] == 2
    assert again.counts == {"ok": 0, "failed": 0, "skipped": 16, "gone": 0}
    assert (Path(uri) / "_delta_log" / f"{2:020d}.checkpoint.parquet").exists()


def test_large_files_stay_and_large_groups_are_split(spark: SparkSession, tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    noise = os.urandom(300_000)
    small = [write_part(uri, [row(f"{n}", thumbnail=noise[: 200_000 + n])]) for n in range(9)]
    large = write_part(uri, [row("large", thumbnail=os.urandom(600_000))])
    put(uri, [*small, large])
    before = rows_of(uri)
    report = run(spark, CompactConfig(table=uri, target_file_mb=1))
    assert report.details["merged"] == {"files": 9, "into": 2}
    assert large in opened(uri).files
    assert rows_of(uri) == before


def test_files_older_than_keep_hours_are_deleted(spark: SparkSession, uri: str) -> None:
    for path in Path(uri).rglob("*"):
        age(path, 100)
    young = write_part(uri, [row("of a run that was killed just now")])
    live = {file.path for file in opened(uri).files}
    freed = sum(
        path.stat().st_size
        for path in Path(uri).glob("*.parquet")
        if path.name not in {*live, young.path}
    )
    report = run(spark, CompactConfig(table=uri, keep_hours=99))
    assert report.details["freed"] == {"files": 5, "bytes": freed}
    assert parquet_below(uri) == {*live, young.path, opened(uri).files[0].path}
    before = rows_of(uri)
    report = run(spark, CompactConfig(table=uri, keep_hours=0))
    assert parquet_below(uri) == {opened(uri).files[0].path}
    assert rows_of(uri) == before


def traces(uri: str, words: list[str]) -> list[str]:
    """Return every file at or below a table with a word in its bytes, rows, statistics or log."""
    paths = []
    for path in [*Path(uri).rglob("*"), *Path(uri).parent.glob(f"{Path(uri).name}.*")]:
        if not path.is_file():
            continue
        data = path.read_bytes()
        texts = [data]
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            assert table.num_rows, "an empty file proves nothing"
            texts.append(str(table.to_pylist()).encode())
            texts.append(str(pq.read_metadata(path).to_dict()).encode())
        spellings = {
            spelling
            for word in words
            for spelling in (word, json.dumps(word)[1:-1], json.dumps(json.dumps(word))[3:-3])
        }
        if any(spelling.encode() in text for text in texts for spelling in spellings):
            paths.append(str(path))
    return paths


def with_secret(uri: str) -> None:
    """Store the id in a live file, an older one, a file of a killed run, and a run's listing."""
    old = write_part(uri, [row(SECRET), row("older")])
    put(uri, [old])
    put(uri, [write_part(uri, [row(SECRET, error_detail="new"), row("zz")])], [old])
    write_part(uri, [row(SECRET)])
    listing = Path(uri) / "_pool3" / "runs" / "r1" / "listing.parquet"
    listing.parent.mkdir(parents=True)
    pq.write_table(DeltaTable(uri).to_pyarrow_table(), listing)
    (Path(uri) / ".pool3-half").write_bytes(b"PAR1" + SECRET.encode())
    (Path(uri) / "_delta_log" / "_commit_1.json.tmp").write_text(json.dumps(SECRET))
    Path(uri + ".report.json").write_text(json.dumps({"slowest": [{"uri": SECRET}]}))


def test_erased_ids_are_in_no_file(spark: SparkSession, uri: str) -> None:
    with_secret(uri)
    assert len(traces(uri, [SECRET])) >= 8, "the search finds what is there"
    remaining = [record for record in rows_of(uri) if record["image_id"] != SECRET]
    without_secret = parquet_below(uri) - {Path(name).name for name in traces(uri, [SECRET])}
    status = compact_features.main(["--table", uri, "--erase", SECRET])
    assert status == 0
    assert traces(uri, [SECRET]) == []
    assert rows_of(uri) == remaining
    # A reader that has an older version open needs these.
    assert parquet_below(uri) >= without_secret
    assert is_suppressed(SECRET, read_suppressed(uri))
    with pytest.raises(StorageError):
        storage.fetch(f"{uri}/_delta_log/{0:020d}.json")
    report = json.loads(Path(uri + ".report.json").read_text())
    assert report["erased"] == {"ids": 1, "found": 1, "rows": 1}
    assert report["counts"] == {"ok": 17, "failed": 0, "skipped": 0, "gone": 1}
    assert "cannot be read any more" in report["warnings"][0]
    # The table can be used like any other.
    put(uri, [write_part(uri, [row("next")])])
    assert len(rows_of(uri)) == len(remaining) + 1


def test_erasing_rewrites_no_file_without_the_ids(spark: SparkSession, tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    large = [
        write_part(uri, [row(f"{n}", thumbnail=os.urandom(600_000)), row(f"{n} too")])
        for n in range(3)
    ]
    put(uri, large)
    report = run(spark, CompactConfig(table=uri, target_file_mb=1, erase="1,nobody"))
    assert {large[0], large[2]} < set(opened(uri).files)
    assert [record["image_id"] for record in rows_of(uri)] == ["0", "0 too", "1 too", "2", "2 too"]
    assert report.details["erased"] == {"ids": 2, "found": 1, "rows": 1}
    assert "1 of 2 ids" in report.warnings[1]
    assert traces(uri, ["nobody"]) == []


def test_a_table_is_empty_when_all_rows_are_erased(spark: SparkSession, tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    put(uri, [write_part(uri, [row("a"), row("b")])])
    (tmp_path / "ids.txt").write_text("a\nb\n")
    run(spark, CompactConfig(table=uri, erase=f"@{tmp_path / 'ids.txt'}"))
    assert rows_of(uri) == []
    assert parquet_below(uri) == set()


def test_the_next_run_completes_an_erasure_that_was_killed(
    spark: SparkSession, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_secret(uri)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compact, "delete_objects", killed)
        with pytest.raises(KeyboardInterrupt):
            run(spark, CompactConfig(table=uri, erase=SECRET))
    assert SECRET not in {record["image_id"] for record in rows_of(uri)}
    assert traces(uri, [SECRET])
    Path(uri + ".report.json").unlink()
    report = run(spark, CompactConfig(table=uri, erase=SECRET))
    assert report.details["erased"] == {"ids": 1, "found": 1, "rows": 0}
    assert traces(uri, [SECRET]) == []


def test_a_table_in_a_bucket(
    spark: SparkSession, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in os.environ.items():
        if name.startswith("AWS_"):
            monkeypatch.setitem(spark.sparkContext.environment, name, value)
    uri = f"{s3_bucket}/lake/features"
    old = write_part(uri, [row("a"), row("b")])
    put(uri, [old, write_part(uri, [row("c")])])
    put(uri, [write_part(uri, [row("b")])], [old])
    report = run(spark, CompactConfig(table=uri, erase="b", keep_hours=0))
    table = opened(uri)
    assert [record["image_id"] for record in rows_of(uri)] == ["c"]
    assert report.details["freed"]["files"] == 3  # type: ignore[index]
    left = {entry.uri.removeprefix(f"{uri}/") for entry in storage.list_objects(uri)}
    assert {name for name in left if name.endswith(".parquet")} == {
        table.files[0].path,
        f"_delta_log/{2:020d}.checkpoint.parquet",
    }
    assert not any(name.endswith(f"{1:020d}.json") for name in left if "_delta_log" in name)


def test_nothing_changes_while_another_run_has_the_lease(
    spark: SparkSession, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = parquet_below(uri)
    with leased(uri, run_id="20260101T000000-nightly", job="extract-features"):
        assert compact_features.main(["--table", uri, "--erase", "00"]) == 1
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "20260101T000000-nightly" in report["error"]
    assert (parquet_below(uri), opened(uri).version) == (before, 1)
    assert not read_suppressed(uri)


def test_a_live_file_that_cannot_be_read_stops_erasing(spark: SparkSession, uri: str) -> None:
    broken = opened(uri).files[0].path
    (Path(uri) / broken).write_bytes(b"PAR1")
    with pytest.raises(Pool3Error, match=broken):
        run(spark, CompactConfig(table=uri, erase="07"))
    assert opened(uri).version == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_file_mb": 0}, "--target-file-mb"),
        ({"keep_hours": -1}, "--keep-hours"),
        ({"keep_hours": float("nan")}, "--keep-hours"),
        ({"table": "http://x/y"}, "http"),
        ({"table": "nowhere-at-all"}, "nowhere-at-all"),
        ({"erase": ",,"}, "--erase"),
        ({"erase": "@nowhere-at-all.txt"}, "nowhere-at-all.txt"),
    ],
)
def test_wrong_arguments_are_errors(
    spark: SparkSession, uri: str, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run(spark, CompactConfig(**{"table": uri, **change}))  # type: ignore[arg-type]
    assert not Path("nowhere-at-all").exists()
    assert not (Path(uri) / "_pool3").exists()
