"""How much the local cache may hold: room is made by evicting what was not used for longest.

Each cached file stands under its name or, while it is downloaded, under a passing one that already
has its full length; who uses either holds a shared lock on it. So what nobody has locked may go,
and a passing file without a lock is what a killed process left.
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
    """Return where cached files stand."""
    return cache_directory() / "objects"


def cache_limit(max_bytes: int | None = None) -> int | None:
    """Return how many bytes may be cached: `max_bytes`, else ``$POOL3_CACHE_MAX_BYTES``, else None.

    Raises
    ------
    UsageError
        Unless it is a whole number of at least 1.
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
    """Let one thread of one process at a time do something; the name says what."""
    folder = cache_directory() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def reserve(folder: Path, size: int, limit: int | None, wanted: str) -> tuple[int, Path]:
    """Make a file of `size` bytes under a passing name, after making room for it.

    Parameters
    ----------
    folder
        Where, below `objects_folder`.
    size
        Its length; it is counted from now on, whoever counts.
    limit
        Most bytes of all cached files together.
    wanted
        What an error names.

    Returns
    -------
    descriptor
        Open for writing, and locked against eviction until it is closed.
    path

    Raises
    ------
    CacheFull
        When what may not be evicted leaves too little room.
    """
    with locked("room"):  # so that nobody finds the new file before it is locked
        _make_room(size, limit, wanted)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=_PARTIAL)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.truncate(descriptor, size)
    return descriptor, Path(name)


@dataclass(frozen=True, order=True)
class _Entry:
    """A file of the cache; in the order in which files go."""

    finished: bool
    used_ns: int
    bytes: int = field(compare=False)
    path: Path = field(compare=False)


def _entries() -> list[_Entry]:
    found = []
    for path in objects_folder().glob("*/*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            finished = not path.name.startswith(_PARTIAL)
            found.append(_Entry(finished, status.st_mtime_ns, status.st_size, path))
    return sorted(found)


def _make_room(size: int, limit: int | None, wanted: str) -> None:
    allowed = float("inf") if limit is None else limit - size
    needs = f"the cache {cache_directory()} may hold {limit} bytes, and {wanted} has {size}"
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
    """Remove a file unless somebody holds it; tells whether it was removed."""
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
