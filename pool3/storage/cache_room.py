"""Limits the size of the local cache by evicting the least recently used files.

A cached file has its final name or, during the download, a temporary one; a temporary file has its
full length from the start. Users of either have a shared lock on it. So a file without a lock may
be evicted, and a temporary file without a lock was left by a killed process.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pool3.errors import CacheFull, UsageError

_PARTIAL = ".partial-"


def cache_directory() -> Path:
    """Return the cache's folder: ``$POOL3_CACHE_DIR``, else ``~/.cache/pool3``."""
    configured = os.environ.get("POOL3_CACHE_DIR")
    return Path(configured) if configured else Path.home() / ".cache" / "pool3"


def objects_folder() -> Path:
    """Return the folder of the cached files."""
    return cache_directory() / "objects"


def cache_limit(max_bytes: int | None = None) -> int | None:
    """Return how many bytes may be cached: `max_bytes`, else ``$POOL3_CACHE_MAX_BYTES``, else None.

    Raises
    ------
    UsageError
        The limit is not a whole number of at least 1.
    """
    if max_bytes is not None:
        name, text = "cache_max_bytes", str(max_bytes)
    else:
        name, text = "$POOL3_CACHE_MAX_BYTES", os.environ.get("POOL3_CACHE_MAX_BYTES", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise UsageError(f"{name} must be a whole number of bytes, at least 1; found {text!r}")
    return int(text)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Run the block in one thread of one process at a time; the lock is identified by `name`."""
    folder = cache_directory() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def reserve(folder: Path, size: int, limit: int | None, uri: str) -> tuple[int, Path]:
    """Create a temporary file of `size` bytes, after making room for it.

    Parameters
    ----------
    folder
        Folder of the file, below `objects_folder`.
    size
        Length of the file, which counts towards the limit immediately.
    limit
        Most bytes of all cached files.
    uri
        The object, for errors.

    Returns
    -------
    descriptor
        Open for writing, and locked against eviction until it is closed.
    path

    Raises
    ------
    CacheFull
        The files in use leave too little room.
    """
    with locked("room"):  # so that no process evicts the new file before it is locked
        _make_room(size, limit, uri)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=_PARTIAL)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.truncate(descriptor, size)
    return descriptor, Path(name)


@dataclass(frozen=True, order=True)
class _Entry:
    """A file of the cache; entries sort in the order of eviction."""

    finished: bool
    used_ns: int
    bytes: int = field(compare=False)
    path: Path = field(compare=False)


def _entries() -> list[_Entry]:
    entries = []
    for path in objects_folder().glob("*/*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            finished = not path.name.startswith(_PARTIAL)
            entries.append(_Entry(finished, status.st_mtime_ns, status.st_size, path))
    return sorted(entries)


def _make_room(size: int, limit: int | None, uri: str) -> None:
    allowed = float("inf") if limit is None else limit - size
    needs = f"the cache {cache_directory()} may hold {limit} bytes, and {uri} has {size}"
    remedy = "raise cache_max_bytes or $POOL3_CACHE_MAX_BYTES"
    if allowed < 0:
        raise CacheFull(f"{needs}; {remedy}")
    entries = _entries()
    total = sum(entry.bytes for entry in entries)
    for entry in entries:
        if entry.finished and total <= allowed:
            break
        if _evicted(entry.path):
            total -= entry.bytes
    if total > allowed:
        raise CacheFull(f"{needs}, while {total} are in use; {remedy}, or close other readers")


def _evicted(path: Path) -> bool:
    """Remove a file unless it is locked; returns whether it was removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
