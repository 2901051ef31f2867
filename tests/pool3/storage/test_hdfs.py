"""HDFS, as far as it can be tested without a cluster: a local folder replaces its files.

Connecting to a name node and reading through libhdfs are untested here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyarrow import fs

from pool3 import storage
from pool3.errors import NotFound, StorageError, UsageError
from pool3.storage import hdfs

ROOT = "hdfs://namenode:8020"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that replaces the files of the cluster."""
    system = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    asked = {"namenode:8020": system}
    monkeypatch.setattr(hdfs, "connected", asked.__getitem__)
    return tmp_path


def test_files_are_listed_at_every_depth_and_read(cluster: Path) -> None:
    names = ["photos/a b.jpg", "photos/100%20.jpg", "photos/deep/er/\N{SNOWMAN}.jpg", "other.jpg"]
    for name in names:
        (cluster / name).parent.mkdir(parents=True, exist_ok=True)
        (cluster / name).write_bytes(name.encode())
    before = datetime.now(UTC)
    listed = {entry.uri: entry for entry in storage.list_objects(f"{ROOT}/photos")}
    assert set(listed) == {f"{ROOT}/{name}" for name in names[:3]}
    for name in names[:3]:
        entry = listed[f"{ROOT}/{name}"]
        assert storage.fetch(entry.uri) == name.encode()
        assert storage.canonical_uri(entry.uri) == entry.uri
        assert entry.size == len(name.encode())
        assert abs((before - entry.modified_at).total_seconds()) < 60
        assert entry.etag is None


def test_a_single_file_is_listed_as_itself(cluster: Path) -> None:
    (cluster / "a.jpg").write_bytes(b"x")
    assert [entry.uri for entry in storage.list_objects(f"{ROOT}/a.jpg")] == [f"{ROOT}/a.jpg"]


def test_files_folders_and_missing_paths_are_distinguished(cluster: Path) -> None:
    (cluster / "folder").mkdir()
    (cluster / "file").write_bytes(b"x")
    kinds = {
        name: (storage.exists(f"{ROOT}/{name}"), storage.is_directory(f"{ROOT}/{name}"))
        for name in ("folder", "file", "nothing")
    }
    assert kinds == {"folder": (False, True), "file": (True, False), "nothing": (False, False)}


def test_missing_and_too_large_files_have_their_codes(cluster: Path) -> None:
    with pytest.raises(NotFound):
        storage.fetch(f"{ROOT}/missing.jpg")
    with pytest.raises(NotFound):
        list(storage.list_objects(f"{ROOT}/missing"))
    (cluster / "eleven").write_bytes(bytes(11))
    assert len(storage.fetch(f"{ROOT}/eleven", max_bytes=11)) == 11
    with pytest.raises(StorageError) as caught:
        storage.fetch(f"{ROOT}/eleven", max_bytes=10)
    assert caught.value.code == "too_large"


def test_failures_of_the_cluster_are_retried(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cluster / "a.jpg").write_bytes(b"content")
    failures = iter([OSError("connection lost"), OSError("connection lost")])
    read = hdfs.read

    def failing(uri: str, max_bytes: int | None) -> bytes:
        for error in failures:
            raise error
        return read(uri, max_bytes)

    monkeypatch.setattr(hdfs, "read", failing)
    assert storage.fetch(f"{ROOT}/a.jpg") == b"content"


def test_a_file_can_be_read_at_a_position(cluster: Path) -> None:
    (cluster / "table.parquet").write_bytes(b"0123456789")
    with storage.open_input(f"{ROOT}/table.parquet") as file:
        file.seek(4)
        assert file.read(2) == b"45"


def test_nothing_is_written_there() -> None:
    with pytest.raises(UsageError, match="bucket or a local folder"):
        storage.put(f"{ROOT}/index/manifest.json", b"x")


@pytest.fixture
def no_hadoop(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(host: str, port: int) -> fs.FileSystem:
        raise OSError("Unable to load libhdfs: no such file\ndlopen(…) failed\ndlopen(…) failed")

    monkeypatch.setattr(fs, "HadoopFileSystem", absent)


@pytest.mark.usefixtures("no_hadoop")
def test_without_hadoops_libraries_the_error_has_a_remedy() -> None:
    with pytest.raises(UsageError, match=r"no such file\); set HADOOP_HOME"):
        list(storage.list_objects("hdfs://without-libraries/photos"))
    with pytest.raises(StorageError, match="set HADOOP_HOME") as caught:
        storage.fetch("hdfs://without-libraries/photos/a.jpg")
    assert caught.value.code == "fetch_failed"


def test_a_port_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="correct the port"):
        storage.exists("hdfs://namenode:eight/photos")
