"""Local objects: every name is listed, writes are atomic, and damage is detected."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pool3 import storage
from pool3.errors import AlreadyExists, NotFound, StorageError, UsageError

ODD_NAMES = [
    "_MG_0001.JPG", "a:b.jpg", "\N{SLIGHTLY SMILING FACE}.jpg", "100%.jpg", "a%20b.jpg", "a#b.jpg",
    "two words.jpg", "line\nfeed.jpg", "q?*.jpg", "~t.jpg", "a\\b.jpg", "[x].jpg", "x" * 250,
]  # fmt: skip


def test_every_odd_name_is_listed_and_read_back(tmp_path: Path) -> None:
    for number, name in enumerate(ODD_NAMES):
        (tmp_path / name).write_bytes(b"%d" % number)
    listed = {o.uri: o.size for o in storage.list_objects(str(tmp_path))}
    assert set(listed) == {f"{tmp_path}/{name}" for name in ODD_NAMES}
    for number, name in enumerate(ODD_NAMES):
        assert storage.fetch(storage.canonical_uri(tmp_path / name)) == b"%d" % number


def test_a_name_that_is_not_utf8_is_still_listed(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff.jpg")).write_bytes(b"x")
    assert [o.uri for o in storage.list_objects(str(tmp_path))] == [f"{tmp_path}/\\xff.jpg"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"x")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    entries = {o.uri.removeprefix(str(tmp_path)) for o in storage.list_objects(str(tmp_path))}
    assert entries == {"/a/x", "/b/x", "/dangling"}


def test_a_missing_folder_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        list(storage.list_objects(str(tmp_path / "nowhere")))


def test_put_if_absent_lets_the_first_writer_win(tmp_path: Path) -> None:
    uri = storage.join(str(tmp_path), "snapshots", "manifest.json")
    storage.put_if_absent(uri, b"first")
    with pytest.raises(AlreadyExists, match=r"manifest\.json"):
        storage.put_if_absent(uri, b"second")
    assert storage.fetch(uri) == b"first"
    assert [o.uri for o in storage.list_objects(str(tmp_path))] == [uri]  # no temporary file stays


def test_fetch_refuses_more_bytes_than_allowed(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(11))
    assert len(storage.fetch(str(tmp_path / "big"), max_bytes=11)) == 11
    with pytest.raises(StorageError, match="11 bytes") as caught:
        storage.fetch(str(tmp_path / "big"), max_bytes=10)
    assert caught.value.code == "too_large"


def test_a_file_damaged_after_its_verification_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL3_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "tree.ann"
    path.write_bytes(b"good")
    expected = hashlib.sha256(b"good").hexdigest()
    assert storage.verified_file(str(path), sha256=expected, size=4).path == path
    os.utime(path, ns=(1, 1))
    path.write_bytes(b"evil")
    with pytest.raises(StorageError, match="damaged"):
        storage.verified_file(str(path), sha256=expected, size=4)
    path.write_bytes(b"longer")
    with pytest.raises(StorageError, match="expected bytes 4, found 6"):
        storage.verified_file(str(path), sha256=expected, size=4)


@pytest.mark.parametrize(
    ("where", "canonical"),
    [
        ("s3://b/k%20 #?.jpg", "s3://b/k%20 #?.jpg"),
        ("S3://b/folder/", "s3://b/folder"),
        ("file:///data/x", "/data/x"),
        ("file:/data/a%20b #?.jpg", "/data/a%20b #?.jpg"),
        ("FILE://localhost/data//x/", "/data/x"),
        ("file:////data/x", "/data/x"),
        ("s3a://b/k%20 #?\t.jpg", "s3://b/k%20 #?\t.jpg"),
        ("S3N://b/a//b/", "s3://b/a//b"),
        ("gcs://b/k", "gs://b/k"),
        ("abfss://c@Acc.dfs.core.windows.net/k@#?", "abfss://c@acc.dfs.core.windows.net/k@#?"),
        ("abfs://c@acc.dfs.core.windows.net/", "abfss://c@acc.dfs.core.windows.net"),
        ("wasbs://c@acc.blob.core.windows.net/a/b", "abfss://c@acc.dfs.core.windows.net/a/b"),
        ("wasb://c@acc.blob.core.windows.net/a", "abfss://c@acc.dfs.core.windows.net/a"),
        ("abfss://c/k", "az://c/k"),
        ("hdfs://nn//photos/./a.jpg", "hdfs://nn/photos/a.jpg"),
        ("/data//x/../y/", "/data/y"),
        ("hdfs://nn:8020/photos/a b%20.jpg", "hdfs://nn:8020/photos/a b%20.jpg"),
    ],
)
def test_canonical_uris(where: str, canonical: str) -> None:
    assert storage.canonical_uri(where) == canonical


@pytest.mark.parametrize(
    "where",
    [
        "http://x/y",
        "s3://key:secret@b/k",
        "s3://b/../k",
        "",
        "a\0b",
        "s3://b?x=1/k",
        "hdfs://user:secret@nn:8020/x",
        "hdfs:///x",
        "file://server/x",
        "file://server",
        "s3a://key:secret@b/k",
        "s3://b#x/k",
        "gcs://b/a/../k",
        "az://c@account/k",
        "abfss://c:secret@acc.dfs.core.windows.net/k",
        "abfss://c@acc.dfs.core.windows.net:8080/k",
        "abfss://c@acc.example.org/k",
        "abfss:///k",
        "http://u:secret@x/y",
    ],
)
def test_other_uris_are_refused_without_showing_secrets(where: str) -> None:
    with pytest.raises(UsageError) as caught:
        storage.canonical_uri(where)
    assert "secret" not in str(caught.value)


def test_join_does_not_climb_out() -> None:
    assert storage.join("s3://b/index", "shards", "x/tree.ann") == "s3://b/index/shards/x/tree.ann"
    for part in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(UsageError):
            storage.join("s3://b/index", part)


def test_a_name_that_is_not_utf8_is_read_under_the_name_that_is_listed(tmp_path: Path) -> None:
    folder = os.fsencode(str(tmp_path)) + b"/\xe9t\xe9"
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/\xff\\x20\xfe.jpg")).write_bytes(b"content")
    (entries,) = storage.list_objects(str(tmp_path))
    assert storage.fetch(entries.uri) == b"content"
    with pytest.raises(NotFound):
        storage.fetch(entries.uri.replace("\\xfe", "\\xfd"))


def test_escapes_in_a_name_are_first_taken_literally(tmp_path: Path) -> None:
    Path(tmp_path / "\\xff.jpg").write_bytes(b"as written")
    Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff.jpg")).write_bytes(b"escaped")
    assert storage.fetch(f"{tmp_path}/\\xff.jpg") == b"as written"


def test_devices_pipes_and_folders_are_not_read_and_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path, "/dev/zero"):
        with pytest.raises(NotFound, match="it is a"):
            storage.fetch(str(path), max_bytes=100)
    for path in (tmp_path / "pipe.jpg" / "x", "/a\0b", "/" + "x" * 300):
        with pytest.raises(StorageError):
            storage.fetch(str(path))


def test_a_file_without_a_size_has_a_limit_too() -> None:
    assert storage.fetch("/proc/self/status")
    with pytest.raises(StorageError) as caught:
        storage.fetch("/proc/self/status", max_bytes=10)
    assert caught.value.code == "too_large"


def test_a_file_removed_during_a_listing_is_left_out(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
    listing = storage.list_objects(str(tmp_path))
    first = next(listing).uri
    for name in "abc":
        (tmp_path / name).unlink()
    assert [first, *(entries.uri for entries in listing)] == [first]
