"""Local files: listed, read with a byte limit, and written by an atomic rename or link."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pool3.errors import AlreadyExists, NotFound, StorageError

_NOT_UTF8 = re.compile(rb"\\x([89a-f][0-9a-f])")


def walk(path: str) -> Iterator[tuple[str, int, datetime]]:
    """Yield ``(path, bytes, modified at)`` of every regular file below `path`, links followed."""
    root = Path(path)
    if root.is_file():
        yield _entry(path, root.stat())
        return
    if not root.is_dir():
        raise NotFound(f"there is no file or folder {path}")
    yield from _walk_folder(path, above=frozenset())


def _walk_folder(
    folder: str, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[str, int, datetime]]:
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return  # a link to a parent folder
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk_folder(entry.path, above | {here})
            elif entry.is_file():
                with suppress(FileNotFoundError):  # removed since the folder was read
                    yield _entry(entry.path, entry.stat())
            elif entry.is_symlink():  # a dangling link is an input, whose fetch will fail
                yield _entry(entry.path, entry.stat(follow_symlinks=False))


def _entry(path: str, status: os.stat_result) -> tuple[str, int, datetime]:
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC)


def check_size(uri: str, size: int, max_bytes: int | None) -> None:
    """Raise `StorageError` with code ``too_large`` when `size` is over the limit."""
    if max_bytes is not None and size > max_bytes:
        raise StorageError("too_large", f"{uri} has {size} bytes, more than {max_bytes}")


def read(path: str, max_bytes: int | None) -> bytes:
    """Return a file's bytes; raise `NotFound` for a folder, a device or a pipe."""
    try:
        with open(path, "rb", opener=_opened) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotFound(f"there is no file {path}: it is a device or a pipe")
            check_size(path, status.st_size, max_bytes)
            # Some file systems report size 0. A file that grows meanwhile is read up to its size.
            data = file.read(status.st_size or (-1 if max_bytes is None else max_bytes + 1))
            check_size(path, len(data), max_bytes)
            return data
    except IsADirectoryError as error:
        raise NotFound(f"there is no file {path}: it is a folder") from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise NotFound(f"there is no file {path}") from error
    except PermissionError as error:
        raise StorageError("denied", f"access to {path} was refused") from error
    except OSError as error:
        raise StorageError("fetch_failed", f"{path} could not be read: {error.strerror}") from error


def _opened(path: str, flags: int) -> int:
    flags |= os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe must not block until it has a writer
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        exact = _exact_name(path)
        if exact is None:
            raise
        return os.open(exact, flags)


def _exact_name(path: str) -> bytes | None:
    """Return the bytes of a name that `walk` escaped since it is not UTF-8, None for others."""
    exact = _NOT_UTF8.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(path))
    return exact if os.fsencode(path) != exact else None


def write(path: str, data: bytes) -> None:
    """Write a file atomically; an existing file is replaced."""
    _publish(path, lambda file: _write_all(file, data), os.replace)


def create(path: str, data: bytes) -> None:
    """Write a file atomically; raise `AlreadyExists` if it exists."""
    _publish(path, lambda file: _write_all(file, data), _link_new)


def copy(source: Path, path: str) -> None:
    """Copy a local file to `path` atomically."""

    def fill(file: BinaryIO) -> None:
        with source.open("rb") as original:
            shutil.copyfileobj(original, file, 1 << 20)

    _publish(path, fill, os.replace)


def _write_all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _link_new(temporary: str, path: str) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise AlreadyExists(f"{path} exists already; another writer was first") from error
    os.unlink(temporary)


def _publish(
    path: str, fill: Callable[[BinaryIO], None], rename: Callable[[str, str], None]
) -> None:
    """Write a temporary file in the folder of `path`, then rename it."""
    temporary = ""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=Path(path).parent, prefix=".pool3-")
        with os.fdopen(descriptor, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        rename(temporary, path)
    except OSError as error:
        code = "denied" if error.errno in (errno.EACCES, errno.EPERM) else "fetch_failed"
        raise StorageError(code, f"{path} could not be written: {error.strerror}") from error
    finally:
        Path(temporary).unlink(missing_ok=True) if temporary else None


def _umask() -> int:
    """Return the process's umask, which mkstemp ignores; `os.umask` would change it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
