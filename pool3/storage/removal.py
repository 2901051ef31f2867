"""Deletes objects; an object that does not exist counts as deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import obstore
from obstore import exceptions

from pool3.errors import StorageError
from pool3.storage.clients import raise_mapped, store_of
from pool3.storage.uris import is_local, split_remote


def delete_objects(uris: Iterable[str]) -> None:
    """Delete the objects with these canonical uris, those of a bucket in bulk.

    Raises
    ------
    StorageError
        An object could not be deleted; others may have been deleted already.
    """
    keys: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        if is_local(uri):
            _delete_local(uri)
        else:
            bucket, key = split_remote(uri)
            keys[bucket].append(key)
    for bucket, names in keys.items():
        _delete_remote(bucket, names)


def _delete_local(path: str) -> None:
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        code = "denied" if isinstance(error, PermissionError) else "fetch_failed"
        raise StorageError(code, f"{path} could not be deleted: {error.strerror}") from error


def _delete_remote(bucket: str, keys: list[str]) -> None:
    store = store_of(bucket)
    try:
        obstore.delete(store, keys)
    except (exceptions.NotFoundError, FileNotFoundError):
        # Some stores stop at the first missing object, so the rest is deleted one by one.
        for key in keys:
            try:
                obstore.delete(store, key)
            except (exceptions.NotFoundError, FileNotFoundError):
                continue
            except exceptions.BaseError as error:
                raise_mapped(f"{bucket}/{key}", error)
    except exceptions.BaseError as error:
        raise_mapped(bucket, error)
