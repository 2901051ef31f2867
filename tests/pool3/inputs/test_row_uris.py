"""Uris in rows are checked as text; none can lead out of the allowed prefixes or set options."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pool3 import storage
from pool3.inputs.row_uris import RowUris

ACCOUNT = "lake@account.dfs.core.windows.net"
ALLOWED = ["s3a://lake/photos", "gs://other", "/data/photos", f"abfss://{ACCOUNT}/photos"]
BELOW = ["s3://lake/photos", "gs://other", "/data/photos", f"abfss://{ACCOUNT}/photos"]
URIS = RowUris(ALLOWED)

segments = st.one_of(
    st.sampled_from(
        ["..", ".", "", "%2e%2e", "a b", "100%", "a#b", "q?x=1", "a@b", "\n", "\\..\\"]
    ),
    st.text(min_size=1, max_size=8).filter(lambda text: "/" not in text),
)
heads = st.sampled_from(
    [
        "s3://lake/photos", "s3://lake", "s3://u:p@lake/photos", "s3://lake:80/photos", "S3://lake",
        "s3:/lake/photos", "s3://lake?x/photos", "s3://lake@evil/photos", "S3://lake/photos", "",
        "s3a://lake/photos", "s3n://u:p@lake/photos", "gcs://other", "file:/data/photos",
        "file:data",
        f"abfs://{ACCOUNT}/photos", "wasbs://lake@account.blob.core.windows.net/photos",
        "abfss://lake@evil.dfs.core.windows.net/photos", "abfss://u:p@lake/photos", "az://lake@x",
        "gs://other", "file:///data/photos", "file://host/data/photos", "http://lake/photos",
        "https://u:p@lake/photos", "ftp://x", "data:", "/data/photos", "//data/photos",
        "/data/photos-2", "data/photos",
    ]
)  # fmt: skip
texts = st.builds(lambda head, rest: "/".join([head, *rest]), heads, st.lists(segments, max_size=4))


@given(texts)
@example("s3://lake/photos/a/../../secret")
@example("/data/photos/../secret")
def test_what_may_be_fetched_is_canonical_and_below_a_prefix(text: str) -> None:
    uri, refused = URIS.judge(text)
    if refused is not None:
        return
    assert uri == storage.canonical_uri(text)
    assert any(uri.startswith(f"{prefix}/") for prefix in BELOW)
    assert ".." not in text.split("/")
    if not uri.startswith("/"):
        assert uri.split("/", 3)[3] == text.split("/", 3)[3]  # the key is taken as it is
        assert "" not in text.split("/")[3:]
        assert "@" not in text.split("/")[2].replace("lake@account.", "")


@given(st.lists(segments.filter(lambda s: min(s, default="a") >= " " and "\x7f" not in s)))
def test_ordinary_names_are_kept_character_for_character(pieces: list[str]) -> None:
    pieces = [piece for piece in pieces if piece not in {"..", ".", ""}]
    if not pieces:
        return
    for prefix in BELOW:
        uri = "/".join([prefix, *pieces])
        assert URIS.judge(uri) == (uri, None)


@pytest.mark.parametrize(
    "text",
    [
        None, "", "a.jpg", "./a.jpg", "s3://lake/photos/../secret/a.jpg",
        "/data/photos/../../etc/passwd", "s3://lake/photos-2/a.jpg", "/data/photos2/a.jpg",
        "/data/photos", "s3://lake/photos", "s3://lake/photos/", "s3:///photos/a.jpg",
        "s3://key:secret@lake/photos/a.jpg",
        "s3://lake@evil/photos/a.jpg", "s3://la ke/photos/a.jpg", "s3://lake#x/photos/a.jpg",
        "s3://lake:9000/photos/a.jpg", "http://169.254.169.254/latest", "data:image/png,x",
        "https://lake/photos/a.jpg", "ftp://lake/photos/a.jpg", "/data/photos/a\0.jpg",
        "file://server/data/photos/a.jpg", "file:data/photos/a.jpg", "s3a:/lake/photos/a.jpg",
        "s3://lake/photos//a.jpg", "s3a://lake/photos/./a.jpg",
        "abfss://lake@evil.dfs.core.windows.net/photos/a.jpg", "az://lake/photos/a.jpg",
        f"abfss://{ACCOUNT}", f"abfss://u:secret@{ACCOUNT}/photos/a.jpg",
    ],
)  # fmt: skip
def test_refused(text: str | None) -> None:
    assert URIS.judge(text).refused


def test_the_reason_of_a_refusal_is_returned() -> None:
    reasons = {
        "/data/photos/a/../b.jpg": "'..'",
        "s3://lake/photos/a/../b.jpg": "'..'",
        "s3://key:secret@lake/photos/a.jpg": "credentials",
        "s3://lake/photos//a.jpg": "an empty, '.' or '..' segment",
        f"abfss://{ACCOUNT}/photos/a\tb.jpg": "control character",
        "file://server/a.jpg": "a file uri with a host",
        "s3://lake:9000/photos/a.jpg": "name of a bucket",
        "hdfs://node:9000:1/a.jpg": "name of a bucket",
        "hdfs://node:9000/a.jpg": "prefix",
        "s3a://other/photos/a.jpg": "prefix",
        "viewfs://lake/photos/a.jpg": "kind of uri",
        "photos/a.jpg": "relative",
    }
    for text, reason in reasons.items():
        assert reason in str(URIS.judge(text).refused)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("file:/data/photos/a b%20#?.jpg", "/data/photos/a b%20#?.jpg"),
        ("s3n://lake/photos/what?.jpg", "s3://lake/photos/what?.jpg"),
        ("s3a://lake/photos/a#1.jpg?versionId=1", "s3://lake/photos/a#1.jpg?versionId=1"),
        ("gcs://other/a.jpg", "gs://other/a.jpg"),
        ("s3://lake/photos/a\tb.jpg", "s3://lake/photos/a\tb.jpg"),
        (f"abfs://{ACCOUNT}/photos/a.jpg", f"abfss://{ACCOUNT}/photos/a.jpg"),
    ],
)
def test_uris_mean_what_they_mean_to_spark(text: str, uri: str) -> None:
    assert URIS.judge(text) == (uri, None)


def test_a_refused_uri_is_shown_without_secrets_and_stays_distinct() -> None:
    first, second = (URIS.judge(f"s3://key:secret{n}@lake/photos/a.jpg").uri for n in range(2))
    assert "secret" not in first
    assert first != second
    signed = URIS.judge("https://lake/photos/a.jpg?X-Amz-Signature=abc123")
    assert "abc123" not in signed.uri
    assert signed.refused == "https is not fetched"


def test_the_whole_file_system_can_be_allowed() -> None:
    assert RowUris(["/"]).judge("/etc/motd").refused is None
    assert RowUris(["/"]).judge("s3://lake/a.jpg").refused
