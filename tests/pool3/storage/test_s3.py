"""Objects in a bucket, against a real S3 protocol server on loopback in its own process."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import boto3
import pyarrow as pa
import pytest

from pool3 import storage
from pool3.errors import AlreadyExists, NotFound, StorageError, UsageError
from pool3.storage.tables import TableFile, commit, open_table


def test_objects_round_trip_and_list_under_their_own_names(s3_bucket: str, tmp_path: Path) -> None:
    names = ["a:b.jpg", "100%.jpg", "a%20b.jpg", "a#b.jpg", "two words.jpg", "\N{SNOWMAN}.jpg"]
    for name in names:
        storage.put(storage.join(s3_bucket, "names", name), name.encode())
    listed = {o.uri for o in storage.list_objects(f"{s3_bucket}/names")}
    assert listed == {f"{s3_bucket}/names/{name}" for name in names}
    assert all(storage.fetch(uri).decode() == storage.name_of(uri) for uri in listed)
    assert storage.is_directory(f"{s3_bucket}/names")
    assert not storage.is_directory(f"{s3_bucket}/nowhere")


def test_a_listing_has_etags(s3_bucket: str) -> None:
    storage.put(f"{s3_bucket}/marks/a.jpg", b"content")
    expected = hashlib.md5(b"content").hexdigest()
    for where in ("marks", "marks/a.jpg"):
        (entry,) = storage.list_objects(f"{s3_bucket}/{where}")
        assert (entry.size, entry.etag) == (7, expected)


def test_folder_markers_are_left_out_and_empty_objects_are_not(s3_bucket: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1"
    )
    for key in ("shown/", "shown/folder/", "shown/folder/empty.jpg"):
        client.put_object(Bucket=storage.name_of(s3_bucket), Key=key, Body=b"")
    entry = [(entry.uri, entry.size) for entry in storage.list_objects(f"{s3_bucket}/shown")]
    assert entry == [(f"{s3_bucket}/shown/folder/empty.jpg", 0)]


SENT = ["odd/t\tab.jpg", "odd/d\x7fel.jpg", "odd/q?x=1#y.jpg", "odd/ok.jpg", "odd/100% é+.jpg"]
NOT_SENT = ["odd/a//b.jpg", "odd//c.jpg", "odd/a/./b.jpg", "odd/a/../b.jpg"]


def test_odd_keys_do_not_hide_other_ones_and_are_read_or_named(s3_bucket: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1"
    )
    plain = [f"odd/plain-{n:04d}.jpg" for n in range(1100)]  # more than a page, around the odd ones
    for key in [*SENT, *NOT_SENT, "odd/folder/"]:
        body = b"" if key.endswith("/") else key.encode()
        client.put_object(Bucket=storage.name_of(s3_bucket), Key=key, Body=body)
    for key in plain:
        storage.put(f"{s3_bucket}/{key}", b"x")
    listed = [entry.uri for entry in storage.list_objects(f"{s3_bucket}/odd")]
    assert sorted(listed) == sorted(f"{s3_bucket}/{key}" for key in [*SENT, *NOT_SENT, *plain])
    assert storage.is_directory(f"{s3_bucket}/odd")
    for key in SENT:
        uri = f"{s3_bucket}/{key}"
        assert storage.fetch(uri) == key.encode()
        assert storage.exists(uri)
        assert not storage.is_directory(uri)
        assert [(o.uri, o.size) for o in storage.list_objects(uri)] == [(uri, len(key.encode()))]
        with storage.open_input(uri) as file:
            assert file.read() == key.encode()
    for key in NOT_SENT:
        for read in (storage.fetch, storage.open_input):
            with pytest.raises(StorageError, match=r"an empty, '\.' or '\.\.' segment") as caught:
                read(f"{s3_bucket}/{key}")
            assert caught.value.code == "fetch_failed"
    with pytest.raises(NotFound):
        storage.fetch(f"{s3_bucket}/odd/no\tne.jpg")
    assert not storage.exists(f"{s3_bucket}/odd/no\tne.jpg")


def test_a_delta_table_is_opened_under_its_own_key(s3_bucket: str) -> None:
    schema = pa.schema([("image_id", pa.string())])
    for name in ("t", "t?x=1", "t#y", "t é 100%"):
        assert open_table(f"{s3_bucket}/{name}") is None
        version = commit(
            f"{s3_bucket}/{name}",
            schema=schema,
            added=[TableFile(path=f"{name}.parquet", size=1, rows=1, smallest=None, largest=None)],
            removed=[],
            read_version=None,
            run_id="run",
            custom_metadata={},
        )
        assert version == 0
        assert storage.exists(f"{s3_bucket}/{name}/_delta_log/{0:020d}.json")
        assert open_table(f"{s3_bucket}/{name}").version() == 0
    assert open_table(f"{s3_bucket}/t%20u") is None
    storage.put(f"{s3_bucket}/t%20u/_delta_log/{0:020d}.json", b"{}")
    with pytest.raises(UsageError, match="'%' and two hexadecimal digits"):
        open_table(f"{s3_bucket}/t%20u")


def test_put_if_absent_lets_the_first_writer_win(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/once/manifest.json"
    storage.put_if_absent(uri, b"first")
    with pytest.raises(AlreadyExists):
        storage.put_if_absent(uri, b"second")
    assert storage.fetch(uri) == b"first"


def test_missing_and_too_large_objects_have_their_codes(s3_bucket: str) -> None:
    with pytest.raises(NotFound):
        storage.fetch(f"{s3_bucket}/missing")
    storage.put(f"{s3_bucket}/eleven", bytes(11))
    with pytest.raises(StorageError) as caught:
        storage.fetch(f"{s3_bucket}/eleven", max_bytes=10)
    assert caught.value.code == "too_large"


def test_the_cache_checks_what_it_downloads(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL3_CACHE_DIR", str(tmp_path / "cache"))
    storage.put(f"{s3_bucket}/cached", b"good")
    good = hashlib.sha256(b"good").hexdigest()
    path = storage.verified_file(f"{s3_bucket}/cached", sha256=good, size=4).path
    assert path.read_bytes() == b"good"
    with pytest.raises(StorageError, match="SHA-256"):
        storage.verified_file(f"{s3_bucket}/cached", sha256="0" * 64, size=4)
    files = [p for p in (tmp_path / "cache" / "objects").rglob("*") if p.is_file()]
    assert files == [path]


def test_bytes_that_do_not_fit_the_cache_are_verified_too(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL3_CACHE_DIR", str(tmp_path / "cache"))
    uri, good = f"{s3_bucket}/large", hashlib.sha256(b"good").hexdigest()
    storage.put(uri, b"good")
    assert storage.verified_bytes(uri, sha256=good, size=4, max_bytes=3) == b"good"
    assert not list((tmp_path / "cache").rglob("objects/*/*"))
    with pytest.raises(StorageError, match="SHA-256"):
        storage.verified_bytes(uri, sha256="0" * 64, size=4, max_bytes=3)
    with pytest.raises(StorageError, match="more than 3"):
        storage.verified_bytes(uri, sha256=good, size=3, max_bytes=2)
