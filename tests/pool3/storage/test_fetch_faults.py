"""Fetching with faults: every failure has its code, and temporary ones are retried."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from obstore import exceptions

from pool3 import storage
from pool3.errors import NotFound, StorageError
from pool3.storage import retries
from pool3.storage.clients import raise_mapped
from tests.s3_faults import FaultyBucket, s3_faults

__all__ = ["s3_faults"]

CONTENT = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def picture(s3_faults: FaultyBucket) -> str:
    uri = f"{s3_faults.uri}/folder/a picture.jpg"
    storage.put(uri, CONTENT)
    return uri


@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "short"])
def test_temporary_failures_are_retried(s3_faults: FaultyBucket, picture: str, fault: str) -> None:
    s3_faults.proxy.fail(picture, fault, times=3)
    assert storage.fetch(picture) == CONTENT
    assert s3_faults.proxy.reads(picture) == 4


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_permanent_failures_have_their_own_codes(
    s3_faults: FaultyBucket, picture: str, fault: str
) -> None:
    s3_faults.proxy.fail(picture, fault)
    with pytest.raises(StorageError, match="given up after 3 of 3 attempts") as caught:
        storage.fetch(picture, attempts=3)
    assert caught.value.code == "fetch_failed"
    assert s3_faults.proxy.reads(picture) == 3
    s3_faults.proxy.heal()
    assert storage.fetch(picture) == CONTENT


@pytest.mark.parametrize(
    ("fault", "code"), [("404", "not_found"), ("403", "denied"), ("expired", "denied")]
)
def test_a_client_error_is_not_retried(
    s3_faults: FaultyBucket, picture: str, fault: str, code: str
) -> None:
    s3_faults.proxy.fail(picture, fault)
    with pytest.raises(StorageError) as caught:
        storage.fetch(picture)
    assert caught.value.code == code
    assert isinstance(caught.value, NotFound) == (code == "not_found")
    assert s3_faults.proxy.reads(picture) == 1


def test_a_large_object_is_refused_before_its_body_is_read(
    s3_faults: FaultyBucket, picture: str
) -> None:
    s3_faults.proxy.fail(picture, "slow")  # reading on would take its time
    started = time.monotonic()
    with pytest.raises(StorageError, match=f"{len(CONTENT)} bytes") as caught:
        storage.fetch(picture, max_bytes=len(CONTENT) - 1, deadline_s=20)
    assert caught.value.code == "too_large"
    assert time.monotonic() - started < 2
    assert s3_faults.proxy.reads(picture) == 1


@pytest.mark.parametrize("fault", ["silent", "slow"])
def test_a_stalled_connection_is_replaced(
    s3_faults: FaultyBucket, picture: str, fault: str
) -> None:
    s3_faults.proxy.fail(picture, fault, times=1)
    started = time.monotonic()
    assert storage.fetch(picture, deadline_s=4, attempts=4) == CONTENT
    assert time.monotonic() - started < 3.5
    assert s3_faults.proxy.reads(picture) == 2


@pytest.mark.slow  # faults, each of which takes its time
@pytest.mark.parametrize("fault", ["silent", "slow", "trickle", "503"])
@pytest.mark.parametrize("attempts", [1, 50])
def test_the_deadline_holds_for_all_attempts_together(
    s3_faults: FaultyBucket,
    picture: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    attempts: int,
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.2)
    s3_faults.proxy.fail(picture, fault)
    started = time.monotonic()
    with pytest.raises(StorageError, match="given up after") as caught:
        storage.fetch(picture, deadline_s=1.0, attempts=attempts)
    assert caught.value.code == "fetch_failed"
    assert time.monotonic() - started < 2.5


def test_threads_fetch_concurrently(s3_faults: FaultyBucket, picture: str) -> None:
    s3_faults.proxy.stall_s = 0.5
    s3_faults.proxy.fail(picture, "silent", times=8)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(storage.fetch, [picture] * 8)) == [CONTENT] * 8
    assert time.monotonic() - started < 3.5


def test_an_unreachable_endpoint_fails_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch, free_endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", free_endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(StorageError) as caught:
        storage.fetch("s3://nobody-listens/a.jpg", deadline_s=2)
    assert caught.value.code == "fetch_failed"


@pytest.fixture
def free_endpoint() -> str:
    from tests.conftest import free_port

    return f"http://127.0.0.1:{free_port()}"


def test_names_that_the_client_refuses_fail_immediately(s3_faults: FaultyBucket) -> None:
    for key in ("a//b.jpg", "a/./b.jpg"):
        with pytest.raises(StorageError) as caught:
            storage.fetch(f"{s3_faults.uri}/{key}")
        assert caught.value.code == "fetch_failed"


def test_a_signature_in_a_url_is_not_in_the_message() -> None:
    error = exceptions.GenericError("GET https://lake/x?sv=1&sig=SECRET%3D in 3s - failed")
    with pytest.raises(StorageError) as caught:
        raise_mapped("az://lake/x", error)
    assert str(caught.value).endswith("reached: GET https://lake/x?… in 3s - failed")


def test_without_credentials_access_counts_as_refused() -> None:
    error = exceptions.GenericError(
        "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1s"
    )
    with pytest.raises(StorageError) as caught:
        raise_mapped("s3://lake/x", error)
    assert caught.value.code == "denied"


def test_pauses_double_up_to_a_limit_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.2)
    for failures, longest in [(1, 0.2), (2, 0.4), (3, 0.8), (30, 10.0)]:
        pauses = {retries.pause_s(failures) for _ in range(50)}
        assert len(pauses) > 1
        assert all(longest / 2 <= pause <= longest for pause in pauses)


@pytest.mark.parametrize("left_s", [100.0, 60.1, 59.9, 7.5])
def test_an_attempt_never_has_more_than_the_remaining_time(left_s: float) -> None:
    limit_s = retries.attempt_limit_s(120, left_s)
    assert limit_s is not None
    assert left_s / 2 <= limit_s <= left_s


def test_with_too_little_time_left_no_attempt_begins() -> None:
    assert retries.attempt_limit_s(120, 7) is None
