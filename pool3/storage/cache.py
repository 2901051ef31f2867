"""The local cache: objects of a bucket as verified local files, shared by the processes of a host.

A cached file is named by its SHA-256, so that it never becomes stale, and is created atomically.
Its users have a shared lock on it, and a locked file is never evicted (`pool3.storage.cache_room`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import obstore
from obstore import exceptions

from pool3.errors import CacheFull, NotFound, StorageError
from pool3.storage.cache_room import cache_directory, cache_limit, locked, objects_folder, reserve
from pool3.storage.clients import hurried_store_of, raise_mapped
from pool3.storage.objects import fetch
from pool3.storage.retries import Exhausted, retried
from pool3.storage.uris import is_local, split_remote

_CHUNK = 1 << 20
_ATTEMPTS = 4
_DEADLINE_S = 3600.0
_STALL_S = 30.0


class PinnedFile:
    """A verified local file that no process evicts as long as this object exists.

    It is a context manager; it is also released by `close` or when it is garbage-collected.
    Returned by `verified_file`.

    Attributes
    ----------
    path : pathlib.Path
    """

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        self.path = path
        self._release = None if descriptor is None else weakref.finalize(self, os.close, descriptor)

    def close(self) -> None:
        """Allow the file to be evicted; existing memory maps of it stay valid."""
        if self._release is not None:
            self._release()

    def __enter__(self) -> PinnedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def verified_file(uri: str, *, sha256: str, size: int, max_bytes: int | None = None) -> PinnedFile:
    """Return a pinned local file whose bytes have the expected digest.

    A local object is its own file; its digest is computed once and not again while size and
    modification time stay the same. A remote object is downloaded into the cache by one process,
    while other processes that need it wait.

    Parameters
    ----------
    uri
        Canonical uri.
    sha256, size
        The expected digest, in lower-case hexadecimal, and number of bytes.
    max_bytes
        Most bytes of all cached files; ``$POOL3_CACHE_MAX_BYTES`` when None, and unlimited without
        that.

    Raises
    ------
    NotFound, StorageError
        The object is missing, cannot be reached, or has other bytes.
    CacheFull
        The limit of the cache leaves too little room besides the files in use.
    """
    if is_local(uri):
        return PinnedFile(_verified_in_place(Path(uri), sha256, size))
    limit = cache_limit(max_bytes)
    cached = objects_folder() / sha256[:2] / sha256
    try:
        pinned = _pinned(cached, size)
        if pinned is not None:
            return pinned
        with locked(sha256[:3]):
            return _pinned(cached, size) or _downloaded(uri, cached, sha256, size, limit)
    except OSError as error:
        full = "; free some space or" if error.errno == errno.ENOSPC else ";"
        raise StorageError(
            "fetch_failed",
            f"{uri} could not be stored in the cache {cache_directory()}: {error.strerror}{full} "
            "name another folder in $POOL3_CACHE_DIR",
        ) from error


def verified_bytes(uri: str, *, sha256: str, size: int, max_bytes: int | None = None) -> bytes:
    """Return the bytes of an object with an expected digest; without the cache if it is full.

    Raises
    ------
    NotFound, StorageError
        As for `verified_file`.
    """
    try:
        with verified_file(uri, sha256=sha256, size=size, max_bytes=max_bytes) as pinned:
            return pinned.path.read_bytes()
    except CacheFull:
        data = fetch(uri, max_bytes=size)
    _require(uri, "SHA-256", sha256, hashlib.sha256(data).hexdigest())
    return data


def _verified_in_place(path: Path, sha256: str, size: int) -> Path:
    try:
        status = path.stat()
    except OSError as error:
        raise NotFound(f"there is no file {path}") from error
    _require(path, "bytes", str(size), str(status.st_size))
    key = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\0{sha256}"
    if not is_remembered(key):
        with path.open("rb") as file:
            _require(path, "SHA-256", sha256, hashlib.file_digest(file, "sha256").hexdigest())
        remember(key)
    return path


def is_remembered(key: str) -> bool:
    """Return whether a check was remembered on this machine; `key` is all that it depends on."""
    return _marker(key).exists()


def remember(key: str) -> None:
    """Remember that a check succeeded, see `is_remembered`."""
    marker = _marker(key)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError:
        return  # with a read-only cache folder the check is only made again the next time


def _marker(key: str) -> Path:
    return cache_directory() / "verified" / hashlib.sha256(key.encode()).hexdigest()


def _require(where: Path | str, what: str, expected: str, actual: str) -> None:
    if expected != actual:
        raise StorageError(
            "fetch_failed",
            f"expected {what} {expected}, found {actual} in {where}: the file is damaged or was "
            "replaced; restore it or build the index again",
        )


def _pinned(path: Path, size: int) -> PinnedFile | None:
    """Lock a cached file; None if it does not exist or is incomplete."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        pinned = PinnedFile(path, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not os.fstat(descriptor).st_nlink:
            pinned.close()  # evicted between open and lock
            continue
        if os.fstat(descriptor).st_size != size:
            pinned.close()
            return None
        _mark_used(descriptor)
        return pinned


def _mark_used(descriptor: int) -> None:
    """Set the file's time, since the least recently used file is evicted first."""
    now = time.time_ns()  # the file system's own timestamp may be some milliseconds old
    with suppress(OSError):  # a prefilled cache may be read-only
        os.utime(descriptor, ns=(now, now))


def _downloaded(uri: str, target: Path, sha256: str, size: int, limit: int | None) -> PinnedFile:
    """Download into a temporary file, which is locked before it gets its final name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = reserve(target.parent, size, limit, uri)
    pinned = PinnedFile(target, descriptor)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            digest = _fill(file, uri, size)
            _mark_used(descriptor)
            os.fsync(descriptor)
        _require(uri, "SHA-256", sha256, digest)
        os.replace(temporary, target)
    except BaseException:
        pinned.close()
        temporary.unlink(missing_ok=True)
        raise
    return pinned


def _fill(file: BinaryIO, uri: str, size: int) -> str:
    """Download an object into a file, from the start at each attempt; returns the digest."""

    def attempt(limit_s: float) -> str:
        file.seek(0)
        digest = hashlib.sha256()
        for chunk in _chunks(uri, size, limit_s):
            digest.update(chunk)
            file.write(chunk)
        _require(uri, "bytes", str(size), str(file.tell()))
        file.flush()
        return digest.hexdigest()

    try:
        return retried(attempt, attempts=_ATTEMPTS, deadline_s=_DEADLINE_S)
    except Exhausted as error:
        raise_mapped(uri, cast(Exception, error.__cause__), str(error))
    except (exceptions.BaseError, FileNotFoundError, PermissionError) as error:
        raise_mapped(uri, error)


def _chunks(uri: str, size: int, limit_s: float) -> Iterator[bytes]:
    bucket, key = split_remote(uri)
    result = obstore.get(hurried_store_of(bucket, limit_s, _STALL_S), key)
    _require(uri, "bytes", str(size), str(result.meta["size"]))
    yield from result.stream(min_chunk_size=_CHUNK)
