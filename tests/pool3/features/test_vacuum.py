"""Only files that no retained version needs are deleted below a table."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pool3 import storage
from pool3.features.table import listed_files
from pool3.features.vacuum import (
    checkpoint,
    keep_since,
    log_before,
    outdated,
    run_leftovers,
    unnamed_files,
)
from pool3.storage.removal import delete_objects
from tests.pool3.features.small_tables import opened, put, row, write_part


def age(path: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def at_hours(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


def test_a_file_stays_as_long_as_a_retained_version_needs_it(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    first, second = write_part(uri, [row("a")]), write_part(uri, [row("b")])
    put(uri, [first])
    put(uri, [second], [first])
    orphan = write_part(uri, [row("c")])  # of a run that was killed, or that is still writing
    log = tmp_path / "t" / "_delta_log"
    for version, hours in enumerate((90, 10)):
        age(log / f"{version:020d}.json", hours)
    for file, hours in ((first, 90), (second, 10), (orphan, 5)):
        age(tmp_path / "t" / file.path, hours)
    table = opened(uri)
    unnamed = unnamed_files(table)
    assert {entry.uri for entry in unnamed} == {table.file_uri(first), table.file_uri(orphan)}

    def doomed(hours: float) -> set[str]:
        return {storage.name_of(name) for name in outdated(table, unnamed, at_hours(hours))}

    assert doomed(100) == set()
    assert doomed(50) == set()  # the first version was current 50 hours ago
    assert doomed(11) == set()  # and until 10 hours ago
    assert doomed(9) == {first.path}
    assert doomed(4) == {first.path, orphan.path}
    assert set(outdated(table, unnamed, keep_since(0))) == {entry.uri for entry in unnamed}


def test_only_data_files_are_ever_deleted(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    table = put(uri, [write_part(uri, [row("a")])])
    staying = ["_pool3/models/m/graph.pb", "_pool3/x.parquet", "notes.txt", ".x/y.parquet"]
    gone = ["part-x.parquet", "deep/part-y.parquet", ".pool3-abc"]
    for name in staying + gone:
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_bytes(b"x")
    unnamed = unnamed_files(table)
    assert [file.path for file in listed_files(table.uri, unnamed)] == sorted(gone)
    delete_objects(outdated(table, unnamed, keep_since(0)))
    delete_objects(entry.uri for entry in unnamed)  # a missing object is not an error
    assert not unnamed_files(table)
    assert all((tmp_path / "t" / name).exists() for name in staying)


def test_leftovers_of_runs_are_deleted_and_the_current_lease_stays(tmp_path: Path) -> None:
    names = ["_pool3/runs/r/listing.parquet", *(f"_pool3/leases/{n:020d}.json" for n in (1, 2))]
    names += ["_pool3/models/m/model.json", "_pool3/suppressed.json"]
    for name in names:
        storage.put(f"{tmp_path}/{name}", b"x")
    entries = run_leftovers(str(tmp_path), keep_since(0), lease_number=2)
    assert [entry.uri.removeprefix(f"{tmp_path}/") for entry in entries] == sorted(names[:2])
    assert run_leftovers(str(tmp_path), at_hours(1), lease_number=2) == []


@pytest.fixture
def in_bucket(s3_bucket: str) -> str:
    return f"{s3_bucket}/lake/t"


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_a_table_is_readable_without_its_older_log(
    tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    uri = str(tmp_path / "t") if where == "local" else request.getfixturevalue("in_bucket")
    files = [write_part(uri, [row("a")]), write_part(uri, [row("b")])]
    for file in files:
        put(uri, [file])
    last = write_part(uri, [row("c")])
    table = put(uri, [last], files[:1])
    storage.put(f"{uri}/_delta_log/_commit_x.json.tmp", b"left by a killed writer")
    unnamed = outdated(table, unnamed_files(table), keep_since(0))
    assert unnamed == [table.file_uri(files[0])]
    delete_objects(unnamed)
    assert not storage.exists(table.file_uri(files[0]))
    assert checkpoint(uri) == 2
    delete_objects(log_before(uri, 2))
    left = {storage.name_of(entry.uri) for entry in storage.list_objects(f"{uri}/_delta_log")}
    assert left == {f"{2:020d}.json", f"{2:020d}.checkpoint.parquet", "_last_checkpoint"}
    assert opened(uri).files == table.files
    assert sorted(DeltaTable(uri).to_pyarrow_table()["image_id"].to_pylist()) == ["b", "c"]
    put(uri, [write_part(uri, [row("d")])])
    assert opened(uri).version == 3


def test_an_object_that_cannot_be_deleted_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(Exception, match="could not be deleted"):
        delete_objects([str(tmp_path / "folder")])
