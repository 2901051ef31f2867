"""Lists and reads pictures in HDFS through libhdfs, which requires Hadoop and Java.

Deliberately no writing: tables, models and indexes are in buckets or in local folders. The tests
replace the cluster by another file system, so the connection to a real one is untested.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, BinaryIO, cast

from pyarrow import fs

from pool3.errors import UsageError
from pool3.storage.local import check_size

SCHEME = "hdfs://"


def is_hdfs(uri: str) -> bool:
    """Return whether a canonical uri is one of HDFS."""
    return uri.startswith(SCHEME)


@lru_cache(maxsize=8)
def connected(authority: str) -> fs.FileSystem:
    """Return the client of one cluster, created once per process.

    Parameters
    ----------
    authority
        ``host:port`` of the name node, or the name of a service in the Hadoop configuration,
        without a port.

    Raises
    ------
    UsageError
        libhdfs or the Java library cannot be loaded, or the port is not a number.
    OSError
        The cluster cannot be reached.
    """
    host, _, port = authority.partition(":")
    if port and not port.isdecimal():
        raise UsageError(f"expected hdfs://host:port, found hdfs://{authority}; correct the port")
    try:
        return fs.HadoopFileSystem(host, int(port or 0))
    except OSError as error:
        if "Unable to load" not in str(error):
            raise
        reason = str(error).split("\n", 1)[0]
        raise UsageError(
            f"expected Hadoop's libraries to read hdfs://{authority}, found none ({reason}); set "
            "HADOOP_HOME, JAVA_HOME and CLASSPATH (`hadoop classpath --glob`), or "
            "ARROW_LIBHDFS_DIR"
        ) from error


def read(uri: str, max_bytes: int | None) -> bytes:
    """Return a file's bytes; only the timeouts of the Hadoop client itself apply."""
    system, path = _place(uri)
    with system.open_input_file(path) as file:
        check_size(uri, file.size(), max_bytes)
        return cast(bytes, file.read())


def open_file(uri: str) -> BinaryIO:
    """Open a file for reading at any position."""
    system, path = _place(uri)
    return cast(BinaryIO, system.open_input_file(path))


def is_file(uri: str) -> bool:
    """Return whether a file exists."""
    return bool(_file_info(uri).is_file)


def is_folder(uri: str) -> bool:
    """Return whether a folder exists."""
    return bool(_file_info(uri).type == fs.FileType.Directory)


def walk(uri: str) -> Iterator[tuple[str, int, datetime]]:
    """Yield ``(uri, bytes, modified at)`` of every file below `uri`, folder by folder."""
    info = _file_info(uri)
    if info.is_file:
        yield uri, info.size, _time_of(info)
        return
    system, path = _place(uri)
    for entry in system.get_file_info(fs.FileSelector(path)):
        below = f"{uri}/{entry.base_name}"
        if entry.type == fs.FileType.Directory:
            yield from walk(below)
        elif entry.is_file:
            yield below, entry.size, _time_of(entry)


def _place(uri: str) -> tuple[Any, str]:
    authority, _, path = uri.removeprefix(SCHEME).partition("/")
    return connected(authority), "/" + path


def _file_info(uri: str) -> Any:
    system, path = _place(uri)
    (info,) = system.get_file_info([path])
    return info


def _time_of(info: Any) -> datetime:
    return cast(datetime, info.mtime).astimezone(UTC)
