"""Ranges of remote objects, against a real S3 protocol server on loopback in its own process."""

from __future__ import annotations

import pytest

from pool3 import storage
from pool3.errors import NotFound, StorageError
from tests.s3_faults import FaultyBucket, s3_faults  # noqa: F401 - a fixture

DATA = bytes(number * 7 % 251 for number in range(2_000_000))


def test_close_and_distant_ranges_have_the_right_bytes(s3_bucket: str) -> None:
    storage.put(f"{s3_bucket}/data", DATA)
    starts = [0, 1, 5, 4000, 300_000, 1_999_990]
    result = storage.fetch_ranges(f"{s3_bucket}/data", starts, 10)
    assert result == b"".join(DATA[start : start + 10] for start in starts)
    assert storage.fetch_ranges(f"{s3_bucket}/data", [], 10) == b""


def test_close_ranges_are_one_request(s3_faults: FaultyBucket) -> None:  # noqa: F811
    uri = f"{s3_faults.uri}/data"
    storage.put(uri, DATA)
    storage.fetch_ranges(uri, list(range(0, 200_000, 1000)), 100)
    assert s3_faults.proxy.reads(uri) == 1
    storage.fetch_ranges(uri, [0, 1_900_000], 100)
    assert s3_faults.proxy.reads(uri) == 3


def test_an_object_that_is_missing_or_shorter_is_an_error(s3_bucket: str) -> None:
    with pytest.raises(NotFound):
        storage.fetch_ranges(f"{s3_bucket}/missing", [0], 10)
    storage.put(f"{s3_bucket}/short", b"abc")
    for start in (0, 3, 100):
        with pytest.raises(StorageError, match="short"):
            storage.fetch_ranges(f"{s3_bucket}/short", [start], 10)


def test_a_broken_connection_is_retried(s3_faults: FaultyBucket) -> None:  # noqa: F811
    uri = f"{s3_faults.uri}/data"
    storage.put(uri, DATA)
    s3_faults.proxy.fail(uri, "reset", times=1)
    assert storage.fetch_ranges(uri, [100], 50) == DATA[100:150]
    s3_faults.proxy.fail(uri, "403")
    with pytest.raises(StorageError) as caught:
        storage.fetch_ranges(uri, [100], 50)
    assert caught.value.code == "denied"
