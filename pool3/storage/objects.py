"""Objects: listed, fetched whole, written whole.

Local files are read and written by the operating system, since an object store's key rules refuse
names that file systems allow (a line feed, say); buckets go through obstore.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import obstore
from obstore import exceptions, store

from pool3.errors import AlreadyExists, NotFound, StorageError
from pool3.storage import local
from pool3.storage.ranged import ranged_file
from pool3.storage.uris import is_local, split_remote

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_DENIED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing says of one object: canonical uri, bytes, time of last change (UTC).

    `etag` is the store's own mark of the content, without quotes; None for local files.
    """

    uri: str
    size: int
    modified_at: datetime
    etag: str | None = None


@lru_cache(maxsize=64)
def store_of(bucket: str) -> ObjectStore:
    """Return the client of one bucket, ``scheme://bucket``, made once in each process."""
    return store.from_url(bucket)


def raise_mapped(uri: str, error: Exception) -> NoReturn:
    """Raise what an object store's own error means to the feature table."""
    if isinstance(error, (exceptions.NotFoundError, FileNotFoundError)):
        raise NotFound(f"there is no object {uri}") from error
    reason = str(error).split("\n", 1)[0]
    if isinstance(error, _DENIED):
        raise StorageError("denied", f"access to {uri} was refused: {reason}") from error
    raise StorageError("fetch_failed", f"{uri} could not be reached: {reason}") from error


def list_objects(uri: str) -> Iterator[StoredObject]:
    """Yield every object below a folder, recursively, in no particular order.

    Parameters
    ----------
    uri
        Canonical uri of a folder; the uri of a single object yields just that one.

    Raises
    ------
    NotFound
        When a local folder does not exist. An object store has no folders: there, nothing is
        yielded.
    """
    if is_local(uri):
        for path, size, modified_at in local.walk(uri):
            yield StoredObject(path, size, modified_at)
        return
    bucket, key = split_remote(uri)
    try:
        for chunk in obstore.list(store_of(bucket), prefix=key or None):
            for meta in chunk:
                yield _stored(f"{bucket}/{meta['path']}", meta)
        if key and _remote_is_object(bucket, key):
            yield _stored(uri, obstore.head(store_of(bucket), key))
    except exceptions.BaseError as error:
        raise_mapped(uri, error)


def _stored(uri: str, meta: ObjectMeta) -> StoredObject:
    etag = meta["e_tag"]
    if etag is not None:
        etag = etag.removeprefix("W/").strip('"')
    return StoredObject(uri, meta["size"], meta["last_modified"], etag)


def _remote_is_object(bucket: str, key: str) -> bool:
    try:
        obstore.head(store_of(bucket), key)
    except (exceptions.NotFoundError, FileNotFoundError):
        return False
    return True


def exists(uri: str) -> bool:
    """Tell whether `uri` names an object (not a folder)."""
    if is_local(uri):
        return Path(uri).is_file()
    try:
        return _remote_is_object(*split_remote(uri))
    except exceptions.BaseError as error:
        raise_mapped(uri, error)


def is_directory(uri: str) -> bool:
    """Tell whether `uri` is a local folder, or the prefix of at least one object in a bucket."""
    if is_local(uri):
        return Path(uri).is_dir()
    bucket, key = split_remote(uri)
    try:
        chunks = obstore.list(store_of(bucket), prefix=key or None, chunk_size=1)
        return any(len(chunk) > 0 for chunk in chunks)
    except exceptions.BaseError as error:
        raise_mapped(uri, error)


def fetch(uri: str, *, max_bytes: int | None = None) -> bytes:
    """Return the bytes of one object.

    Raises
    ------
    NotFound
        There is no such object.
    StorageError
        With code ``denied``, ``fetch_failed``, or ``too_large`` when the object has more than
        `max_bytes` bytes (nothing is read then).
    """
    if is_local(uri):
        return local.read(uri, max_bytes)
    bucket, key = split_remote(uri)
    try:
        result = obstore.get(store_of(bucket), key)
        local.check_size(uri, result.meta["size"], max_bytes)
        return bytes(result.bytes())
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise_mapped(uri, error)


def open_input(uri: str) -> BinaryIO:
    """Open one object for reading at any position; of a remote one, only what is read is fetched.

    Raises
    ------
    NotFound, StorageError
        There is no such object, or it cannot be reached.
    """
    try:
        if is_local(uri):
            return Path(uri).open("rb")
        bucket, key = split_remote(uri)
        return ranged_file(obstore.open_reader(store_of(bucket), key))
    except (exceptions.BaseError, OSError) as error:
        raise_mapped(uri, error)


def put(uri: str, data: bytes) -> None:
    """Write one object whole, in the place of what stood there."""
    if is_local(uri):
        local.write(uri, data)
    else:
        _put_remote(uri, data)


def put_file(uri: str, path: Path) -> None:
    """Store a local file whole under `uri`; readers never see a part of it."""
    if is_local(uri):
        local.copy(path, uri)
    else:
        _put_remote(uri, path)


def _put_remote(uri: str, content: bytes | Path) -> None:
    bucket, key = split_remote(uri)
    try:
        obstore.put(store_of(bucket), key, content)
    except exceptions.BaseError as error:
        raise_mapped(uri, error)


def put_if_absent(uri: str, data: bytes) -> None:
    """Write one object whole, only where none stands yet; of two writers, one wins.

    Raises
    ------
    AlreadyExists
        When the object is there already; it is left as it was.
    """
    if is_local(uri):
        local.create(uri, data)
        return
    bucket, key = split_remote(uri)
    try:
        obstore.put(store_of(bucket), key, data, mode="create")
    except (exceptions.AlreadyExistsError, FileExistsError) as error:
        raise AlreadyExists(f"{uri} exists already; another writer was first") from error
    except exceptions.BaseError as error:
        raise_mapped(uri, error)
