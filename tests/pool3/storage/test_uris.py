"""Canonical uris: each spelling of an object has the same one, and others have another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.storage.uris import canonical_uri, is_local, split_remote, unreachable

SEGMENTS = st.text(min_size=1, max_size=6).filter(
    lambda text: not set(text) & {"/", "\0"} and text not in (".", "..")
)
KEYS = st.lists(SEGMENTS | st.sampled_from(["", ".", "a b%20", "q?x#y", "u@h", "\t"]), max_size=4)
SPELLINGS = {
    "s3://lake": ["s3a://lake", "s3n://lake", "S3://lake"],
    "gs://lake": ["gcs://lake", "GS://lake"],
    "az://lake": ["abfss://lake", "wasbs://lake"],
    "abfss://lake@one.dfs.core.windows.net": [
        "abfs://lake@one.dfs.core.windows.net", "wasbs://lake@ONE.blob.core.windows.net",
        "wasb://lake@one.blob.core.windows.net",
    ],
    "abfss://lake@two.dfs.core.windows.net": ["abfs://lake@two.dfs.core.windows.net"],
    "abfss://lake@two.dfs.fabric.microsoft.com": ["abfs://lake@two.blob.fabric.microsoft.com"],
    "hdfs://nn:8020": ["HDFS://nn:8020"],
}  # fmt: skip


@given(KEYS, st.sampled_from(sorted(SPELLINGS)), st.data())
def test_every_spelling_has_one_canonical_form(
    pieces: list[str], bucket: str, data: st.DataObject
) -> None:
    key = "/".join(pieces).rstrip("/")
    other = data.draw(st.sampled_from(SPELLINGS[bucket]))
    uri = canonical_uri(f"{bucket}/{key}")
    assert canonical_uri(uri) == uri
    assert canonical_uri(f"{other}/{key}") == uri
    assert canonical_uri(f"{other}/{key}/") == uri
    assert not is_local(uri)
    if not bucket.startswith("hdfs"):
        assert split_remote(uri) == (bucket, key)  # character for character


@given(KEYS)
def test_file_uris_are_paths(pieces: list[str]) -> None:
    path = "/" + "/".join(pieces).lstrip("/")
    uri = canonical_uri(path)
    for head in ("file:", "file://", "FILE://localhost"):
        assert canonical_uri(head + path) == uri
    assert canonical_uri(uri) == uri


@given(st.text("sgazhdf3n:/@?#.a\\", max_size=14))
def test_any_text_has_a_canonical_form_or_is_refused(text: str) -> None:
    try:
        uri = canonical_uri(text)
    except UsageError:
        return
    assert canonical_uri(uri) == uri


@pytest.mark.parametrize(
    ("uri", "is_reached"),
    [
        ("s3://lake/a/b.jpg", True), ("s3://lake/a\tb.jpg", True), ("s3://lake", True),
        ("s3://lake/a//b.jpg", False), ("s3://lake//b.jpg", False), ("s3://lake/./b.jpg", False),
        ("gs://lake/a\tb.jpg", True), ("az://lake/a\tb.jpg", False), ("gs://lake/a//b.jpg", False),
        ("/data/a\tb.jpg", True), ("hdfs://nn/a\tb.jpg", True),
    ],
)  # fmt: skip
def test_keys_that_clients_do_not_send(uri: str, is_reached: bool) -> None:
    assert (unreachable(uri) is None) == is_reached
