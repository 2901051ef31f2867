"""Objects: listed, fetched whole, and written atomically.

Local files are read and written with the operating system, since the key rules of object stores
refuse names that file systems allow, such as a line feed. Buckets are accessed with obstore, HDFS
with libhdfs, and keys in S3 and ``gs`` that obstore does not allow with Arrow's clients.
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
from pool3.storage import hdfs, local, odd_keys
from pool3.storage.clients import hurried_store_of, raise_mapped, store_of
from pool3.storage.ranged import ranged_file
from pool3.storage.retries import Exhausted, retried
from pool3.storage.uris import is_local, split_remote, unreachable

if TYPE_CHECKING:
    from obstore import ObjectMeta

_UNHURRIED_S = 3600.0
_STALL_S = 30.0


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An entry of a listing: canonical uri, bytes, and time of the last change (UTC).

    `etag` is the store's tag of the content, without quotes; None for local files.
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
        Canonical uri of a folder; for the uri of a single object, only that object is yielded.

    Raises
    ------
    NotFound
        A local or HDFS folder does not exist. An object store has no folders, so nothing is yielded
        there; the empty objects ``folder/`` that some tools create are left out.
    StorageError
        The folder cannot be reached, or access is refused; or it is in ``az`` and an object has a
        name that the client does not allow (an empty, ``.`` or ``..`` segment, a control
        character). In ``s3`` and ``gs`` such objects are listed, without an etag.
    """
    try:
        if is_local(uri) or hdfs.is_hdfs(uri):
            walk = local.walk if is_local(uri) else hdfs.walk
            for name, size, modified_at in walk(uri):
                yield StoredObject(name, size, modified_at)
            return
        bucket, key = split_remote(uri)
        yield from _listed(bucket, key)
        if odd_keys.needs_arrow(uri):
            yield from (StoredObject(uri, *place) for place in odd_keys.stat(uri))
        elif key and unreachable(uri) is None and _remote_is_object(bucket, key):
            yield _stored(uri, obstore.head(store_of(bucket), key))
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise_mapped(uri, error)


def _listed(bucket: str, prefix: str) -> Iterator[StoredObject]:
    """Yield the objects below a prefix of a bucket; odd keys do not hide the other ones."""
    last = ""
    try:
        for chunk in obstore.list(store_of(bucket), prefix=prefix or None):
            for meta in chunk:
                if meta["size"] > 0 or _remote_is_object(bucket, meta["path"]):
                    yield _stored(f"{bucket}/{meta['path']}", meta)
                last = max(last, meta["path"], key=str.encode)
    except (exceptions.BaseError, ValueError) as error:
        if not odd_keys.can_list(bucket, error):
            raise
        for key, size, modified_at in odd_keys.walk(bucket, prefix, last):
            yield StoredObject(f"{bucket}/{key}", size, modified_at)


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
    """Return whether `uri` names an object (not a folder)."""
    if is_local(uri):
        return Path(uri).is_file()
    try:
        if hdfs.is_hdfs(uri):
            return hdfs.is_file(uri)
        if odd_keys.needs_arrow(uri):
            return bool(odd_keys.stat(uri))
        return _remote_is_object(*split_remote(uri))
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise_mapped(uri, error)


def is_directory(uri: str) -> bool:
    """Return whether `uri` is a folder, or the prefix of at least one object in a bucket."""
    if is_local(uri):
        return Path(uri).is_dir()
    try:
        if hdfs.is_hdfs(uri):
            return hdfs.is_folder(uri)
        bucket, key = split_remote(uri)
        if odd_keys.needs_arrow(uri):
            return any(True for _ in odd_keys.walk(bucket, key, ""))
        chunks = obstore.list(store_of(bucket), prefix=key or None, chunk_size=1)
        return any(len(chunk) > 0 for chunk in chunks)
    except (exceptions.BaseError, OSError, ValueError) as error:
        if odd_keys.is_odd_key_error(error):
            return True  # an object below it has an odd key
        raise_mapped(uri, error)


def fetch(
    uri: str,
    *,
    max_bytes: int | None = None,
    deadline_s: float | None = None,
    attempts: int = 4,
) -> bytes:
    """Return the bytes of one object.

    The request for a remote object is retried after a pause when the server is busy or fails, or
    when the connection breaks or stalls; not when the object is missing or access is refused.

    Parameters
    ----------
    uri
        Canonical uri.
    max_bytes
        A larger object is not read.
    deadline_s
        Most seconds for all attempts together; an hour by default. For HDFS, whose client has its
        own timeouts, only pauses and starts of attempts are limited.
    attempts
        Most attempts for a remote object.

    Raises
    ------
    NotFound
        The object does not exist.
    StorageError
        With code ``denied``, ``fetch_failed``, or ``too_large``.
    """
    if is_local(uri):
        return local.read(uri, max_bytes)
    _require_reachable(uri)
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
    except UsageError as error:  # this host has no libhdfs, which must not end the run
        raise StorageError("fetch_failed", str(error)) from error
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise_mapped(uri, error)


def _require_reachable(uri: str) -> None:
    reason = unreachable(uri)
    if reason is not None:
        raise StorageError("fetch_failed", f"{uri!r} cannot be fetched: it has {reason}")


def _fetched(uri: str, max_bytes: int | None, limit_s: float, stall_s: float) -> bytes:
    if hdfs.is_hdfs(uri):
        return hdfs.read(uri, max_bytes)
    if odd_keys.needs_arrow(uri):
        return odd_keys.read(uri, max_bytes)
    bucket, key = split_remote(uri)
    result = obstore.get(hurried_store_of(bucket, limit_s, stall_s), key)
    local.check_size(uri, result.meta["size"], max_bytes)
    return bytes(result.bytes())


def open_input(uri: str) -> BinaryIO:
    """Open one object for reading at any position; only the ranges that are read are fetched.

    Raises
    ------
    NotFound, StorageError
        The object does not exist or cannot be reached.
    """
    try:
        if is_local(uri):
            return Path(uri).open("rb")
        if hdfs.is_hdfs(uri):
            return hdfs.open_file(uri)
        _require_reachable(uri)
        if odd_keys.needs_arrow(uri):
            return odd_keys.open_file(uri)
        bucket, key = split_remote(uri)
        return ranged_file(obstore.open_reader(store_of(bucket), key))
    except (exceptions.BaseError, OSError) as error:
        raise_mapped(uri, error)


def put(uri: str, data: bytes) -> None:
    """Write one object atomically; an existing one is replaced."""
    if is_local(uri):
        local.write(uri, data)
    else:
        _put_remote(uri, data)


def put_file(uri: str, path: Path) -> None:
    """Store a local file under `uri` atomically."""
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
    """Write one object atomically if it does not exist; of two writers, one wins.

    Raises
    ------
    AlreadyExists
        The object exists already; it is not changed.
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
