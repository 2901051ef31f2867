"""Objects: listed, fetched whole, written whole.

Local files are read and written by the operating system, since an object store's key rules refuse
names that file systems allow (a line feed, say); buckets go through obstore, and what is read from
HDFS through libhdfs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import obstore
from obstore import exceptions

from pool3.errors import AlreadyExists, StorageError, UsageError
from pool3.storage import hdfs, local
from pool3.storage.clients import hurried_store_of, raise_mapped, store_of
from pool3.storage.ranged import ranged_file
from pool3.storage.retries import Exhausted, retried
from pool3.storage.uris import is_local, split_remote

if TYPE_CHECKING:
    from obstore import ObjectMeta

_UNHURRIED_S = 3600.0
_STALL_S = 30.0


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing says of one object: canonical uri, bytes, time of last change (UTC).

    `etag` is the store's own mark of the content, without quotes; None for local files.
    """

    uri: str
    size: int
    modified_at: datetime
    etag: str | None = None


def list_objects(uri: str) -> Iterator[StoredObject]:
    """Yield every object below a folder, recursively, in no particular order.

    Parameters
    ----------
    uri
        Canonical uri of a folder; the uri of a single object yields just that one.

    Raises
    ------
    NotFound
        When a folder does not exist. An object store has no folders: there, nothing is yielded,
        and the empty objects ``folder/`` by which some tools make it show folders are left out.
    StorageError
        When it cannot be listed: it cannot be reached, access is refused, or an object has a name
        that the client does not allow (an empty, ``.`` or ``..`` segment, a line feed).
    """
    try:
        if is_local(uri) or hdfs.is_hdfs(uri):
            walk = local.walk if is_local(uri) else hdfs.walk
            for found, size, modified_at in walk(uri):
                yield StoredObject(found, size, modified_at)
            return
        bucket, key = split_remote(uri)
        for chunk in obstore.list(store_of(bucket), prefix=key or None):
            for meta in chunk:
                if meta["size"] > 0 or _remote_is_object(bucket, meta["path"]):
                    yield _stored(f"{bucket}/{meta['path']}", meta)
        if key and _remote_is_object(bucket, key):
            yield _stored(uri, obstore.head(store_of(bucket), key))
    except (exceptions.BaseError, OSError) as error:
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
        if hdfs.is_hdfs(uri):
            return hdfs.is_file(uri)
        return _remote_is_object(*split_remote(uri))
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise_mapped(uri, error)


def is_directory(uri: str) -> bool:
    """Tell whether `uri` is a local folder, or the prefix of at least one object in a bucket."""
    if is_local(uri):
        return Path(uri).is_dir()
    try:
        if hdfs.is_hdfs(uri):
            return hdfs.is_folder(uri)
        bucket, key = split_remote(uri)
        chunks = obstore.list(store_of(bucket), prefix=key or None, chunk_size=1)
        return any(len(chunk) > 0 for chunk in chunks)
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise_mapped(uri, error)


def fetch(
    uri: str,
    *,
    max_bytes: int | None = None,
    deadline_s: float | None = None,
    attempts: int = 4,
) -> bytes:
    """Return the bytes of one object.

    A remote object is asked for again, after a pause, when a server is busy or fails or a
    connection breaks or stalls; never when it is missing or access is refused.

    Parameters
    ----------
    uri
        Canonical uri.
    max_bytes
        Of a larger object nothing is read.
    deadline_s
        Most seconds for all attempts together; an hour unless given. Of HDFS, whose client has
        timeouts of its own, only the pauses and the beginning of an attempt keep to it.
    attempts
        How often a remote object is asked for, at most.

    Raises
    ------
    NotFound
        There is no such object.
    StorageError
        With code ``denied``, ``fetch_failed``, or ``too_large``.
    """
    if is_local(uri):
        return local.read(uri, max_bytes)
    total_s = _UNHURRIED_S if deadline_s is None else deadline_s
    stall_s = min(_STALL_S, total_s / attempts)
    try:
        return retried(
            lambda limit_s: _fetched(uri, max_bytes, limit_s, stall_s),
            attempts=attempts,
            deadline_s=total_s,
        )
    except Exhausted as error:
        raise_mapped(uri, cast(Exception, error.__cause__), str(error))
    except UsageError as error:  # this machine has no libhdfs, which is no reason to end a run
        raise StorageError("fetch_failed", str(error)) from error
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise_mapped(uri, error)


def _fetched(uri: str, max_bytes: int | None, limit_s: float, stall_s: float) -> bytes:
    if hdfs.is_hdfs(uri):
        return hdfs.read(uri, max_bytes)
    bucket, key = split_remote(uri)
    result = obstore.get(hurried_store_of(bucket, limit_s, stall_s), key)
    local.check_size(uri, result.meta["size"], max_bytes)
    return bytes(result.bytes())


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
        if hdfs.is_hdfs(uri):
            return hdfs.open_file(uri)
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
