"""The local cache: its limit, eviction, and downloads by several processes."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool3 import storage
from pool3.errors import CacheFull, StorageError, UsageError
from pool3.storage import cache
from tests.conftest import REPOSITORY
from tests.s3_faults import FaultyBucket, s3_faults  # noqa: F401 - a fixture

HOLD = """if True:
    import sys
    from pool3 import storage
    uri, sha256, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()
    held = storage.verified_file(uri, sha256=sha256, size=size)
    print(held.path, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POOL3_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fake objects whose content is their own uri; returns the list of requested uris."""
    requests = []

    def chunks(uri: str, size: int, limit_s: float) -> Iterator[bytes]:
        requests.append(uri)
        yield uri.encode()

    monkeypatch.setattr(cache, "_chunks", chunks)
    return requests


def pinned(
    uri: str, max_bytes: int | None = None, content: bytes | None = None
) -> storage.PinnedFile:
    data = uri.encode() if content is None else content
    sha256 = hashlib.sha256(data).hexdigest()
    return storage.verified_file(uri, sha256=sha256, size=len(data), max_bytes=max_bytes)


def cached_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "objects").rglob("*") if path.is_file())


def test_the_least_recently_used_file_is_evicted_first(downloads: list[str]) -> None:
    a, b, c = "s3://lake/a", "s3://lake/b", "s3://lake/c"
    size = len(a)
    for uri in (a, b, a, c):
        pinned(uri, max_bytes=2 * size).close()
    assert downloads == [a, b, c]
    pinned(a).close()
    pinned(c).close()
    assert downloads == [a, b, c]
    pinned(b).close()
    assert downloads == [a, b, c, b]


def test_a_pinned_file_stays_and_a_released_one_may_be_evicted(
    downloads: list[str], folder: Path
) -> None:
    first = pinned("s3://lake/a", max_bytes=15)
    with pytest.raises(CacheFull, match="may hold 15 bytes, and s3://lake/b has 11, while 11 are"):
        pinned("s3://lake/b", max_bytes=15)
    again = pinned("s3://lake/a", max_bytes=15)
    first.close()
    with pytest.raises(CacheFull):
        pinned("s3://lake/b", max_bytes=15)
    assert again.path.read_bytes() == b"s3://lake/a"
    del again
    with pinned("s3://lake/b", max_bytes=15) as other:
        assert other.path.read_bytes() == b"s3://lake/b"
    assert cached_bytes(folder) == 11


def test_a_file_larger_than_the_limit_evicts_nothing(downloads: list[str], folder: Path) -> None:
    pinned("s3://lake/a").close()
    with pytest.raises(CacheFull, match="may hold 10 bytes, and s3://lake/b has 11; raise"):
        pinned("s3://lake/b", max_bytes=10)
    assert cached_bytes(folder) == 11


def test_the_limit_comes_from_the_environment(
    downloads: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL3_CACHE_MAX_BYTES", "11")
    pinned("s3://lake/a").close()
    pinned("s3://lake/b").close()
    assert cached_bytes(folder) == 11
    for wrong in ("0", "-1", "1G", "1.5"):
        monkeypatch.setenv("POOL3_CACHE_MAX_BYTES", wrong)
        with pytest.raises(UsageError, match=f"POOL3_CACHE_MAX_BYTES.*{wrong}"):
            pinned("s3://lake/a")


def test_temporary_files_of_killed_processes_are_deleted(
    downloads: list[str], folder: Path
) -> None:
    pinned("s3://lake/a").close()
    left = folder / "objects" / "ab" / ".partial-left"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(bytes(1000))
    pinned("s3://lake/b", max_bytes=30).close()
    assert not left.exists()
    assert cached_bytes(folder) == 22


def test_a_read_only_cache_can_be_used(
    downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned("s3://lake/a").close()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("utime", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    assert pinned("s3://lake/a").path.read_bytes() == b"s3://lake/a"
    assert downloads == ["s3://lake/a"]


def test_a_damaged_copy_is_downloaded_again(downloads: list[str]) -> None:
    path = pinned("s3://lake/a").path
    path.write_bytes(b"short")
    assert pinned("s3://lake/a").path.read_bytes() == b"s3://lake/a"


def test_a_failed_download_leaves_nothing(downloads: list[str], folder: Path) -> None:
    with pytest.raises(StorageError, match="SHA-256"):
        pinned("s3://lake/a", content=b"elevenbytes")
    with pytest.raises(StorageError, match="bytes 3, found 11"):
        pinned("s3://lake/a", content=b"abc")
    assert cached_bytes(folder) == 0


def test_a_folder_that_cannot_be_written_is_named(
    downloads: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_text("a file")
    with pytest.raises(StorageError, match=rf"cache {folder}: .*POOL3_CACHE_DIR"):
        pinned("s3://lake/a")


@given(
    limit=st.integers(30, 80),
    steps=st.lists(st.tuples(st.sampled_from(["hold", "close"]), st.integers(0, 9))),
)
@settings(max_examples=60)
def test_the_limit_is_kept_and_pinned_files_stay_whatever_the_sequence(
    limit: int, steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    in_use: dict[int, list[storage.PinnedFile]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOL3_CACHE_DIR", str(folder))
        patch.setattr(cache, "_chunks", lambda uri, size, limit_s: iter([uri.encode()]))
        for step, number in steps:
            uri = f"s3://lake/{'x' * number}"
            if step == "close":
                for file in in_use.pop(number, []):
                    file.close()
            else:
                needed = sum(10 + other for other in {*in_use, number})
                if needed <= limit:
                    in_use.setdefault(number, []).append(pinned(uri, limit))
                else:
                    with pytest.raises(CacheFull):
                        pinned(uri, limit)
            assert cached_bytes(folder) <= limit
            for other, files in in_use.items():
                expected = f"s3://lake/{'x' * other}".encode()
                assert all(file.path.read_bytes() == expected for file in files)


def test_processes_share_one_download_and_each_pins_the_file(
    s3_faults: FaultyBucket,  # noqa: F811
) -> None:
    uri = f"{s3_faults.uri}/tree.ann"
    data = bytes(range(256)) * 4000
    storage.put(uri, data)
    command = [sys.executable, "-c", HOLD, uri, hashlib.sha256(data).hexdigest(), str(len(data))]
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        for _ in range(3)
    ]
    try:
        for process in processes:
            assert _line(process) == "ready"
        for process in processes:
            _go(process)
        assert len({_line(process) for process in processes}) == 1
        assert s3_faults.proxy.reads(uri) == 1
        storage.put(f"{s3_faults.uri}/other", b"other")
        for process in processes:
            with pytest.raises(CacheFull):
                pinned(f"{s3_faults.uri}/other", len(data) + 1, b"other")
            process.kill()
            process.wait()
        pinned(f"{s3_faults.uri}/other", len(data) + 1, b"other").close()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_threads_share_one_download(s3_faults: FaultyBucket) -> None:  # noqa: F811
    uri = f"{s3_faults.uri}/ids.arrow"
    storage.put(uri, b"ids")
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(pinned(uri, content=b"ids")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.path.read_bytes() for file in results] == [b"ids"] * 8
    assert s3_faults.proxy.reads(uri) == 1


@pytest.mark.parametrize("fault", ["reset", "503", "short"])
def test_an_interrupted_download_is_restarted(
    s3_faults: FaultyBucket,  # noqa: F811
    fault: str,
) -> None:
    uri = f"{s3_faults.uri}/{fault}"
    data = bytes(range(256)) * 4000
    storage.put(uri, data)
    s3_faults.proxy.fail(uri, fault, times=1)
    assert pinned(uri, content=data).path.read_bytes() == data
    assert s3_faults.proxy.reads(uri) == 2
