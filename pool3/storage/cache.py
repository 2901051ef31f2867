"""The local cache: objects of a bucket as checked local files, shared by a machine's processes.

A cached file is named by its SHA-256, so that a name can never go stale, and appears whole.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import obstore

from pool3.errors import NotFound, StorageError
from pool3.storage.clients import raise_mapped, store_of
from pool3.storage.uris import is_local, split_remote

_CHUNK = 1 << 20


def cache_directory() -> Path:
    """Return the cache's folder: ``$POOL3_CACHE_DIR``, else ``~/.cache/pool3``."""
    configured = os.environ.get("POOL3_CACHE_DIR")
    return Path(configured) if configured else Path.home() / ".cache" / "pool3"


def verified_local_file(uri: str, *, sha256: str, size: int) -> Path:
    """Return a local file whose bytes are known to be those that a manifest names.

    A local object is its own file; it is read through once and the result remembered as long as
    its size and modification time stay. A remote object is downloaded into the cache.

    Parameters
    ----------
    uri
        Canonical uri.
    sha256, size
        What the bytes must be: lower-case hexadecimal digest, and their number.

    Raises
    ------
    NotFound, StorageError
        The object is missing, cannot be reached, or holds other bytes.
    """
    if is_local(uri):
        return _verified_in_place(Path(uri), sha256, size)
    cached = cache_directory() / "objects" / sha256[:2] / sha256
    if not (cached.is_file() and cached.stat().st_size == size):
        _download(uri, cached, sha256, size)
    return cached


def _verified_in_place(path: Path, sha256: str, size: int) -> Path:
    try:
        status = path.stat()
    except OSError as error:
        raise NotFound(f"there is no file {path}") from error
    _require(path, "bytes", str(size), str(status.st_size))
    key = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\0{sha256}"
    marker = cache_directory() / "verified" / hashlib.sha256(key.encode()).hexdigest()
    if not marker.exists():
        with path.open("rb") as file:
            _require(path, "SHA-256", sha256, hashlib.file_digest(file, "sha256").hexdigest())
        _remember(marker)
    return path


def _require(where: Path | str, what: str, expected: str, found: str) -> None:
    if expected != found:
        raise StorageError(
            "fetch_failed",
            f"expected {what} {expected}, found {found} in {where}: the file is damaged or was "
            "replaced; restore it or build the index again",
        )


def _remember(marker: Path) -> None:
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError:
        return  # a read-only home costs another reading next time, nothing else


def _download(uri: str, target: Path, sha256: str, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    bucket, key = split_remote(uri)
    digest = hashlib.sha256()
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            result = obstore.get(store_of(bucket), key)
            _require(uri, "bytes", str(size), str(result.meta["size"]))
            for chunk in result.stream(min_chunk_size=_CHUNK):
                digest.update(chunk)
                file.write(chunk)
        _require(uri, "SHA-256", sha256, digest.hexdigest())
        os.replace(temporary, target)
    except obstore.exceptions.BaseError as error:
        raise_mapped(uri, error)
    finally:
        Path(temporary).unlink(missing_ok=True)
