"""Keys in S3 and Google's storage that obstore does not allow: read with Arrow's clients instead.

obstore fails to list a whole prefix when one key below it has an empty, ``.`` or ``..`` segment or
a control character. Arrow's clients list them all, and read those with control characters. Only
such keys come here, since these list no etags and have the keys of a prefix in memory at once.
Arrow's client for Azure is left out: it ends the process at answers that it does not expect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from pyarrow import fs

from pool3.storage.local import check_size
from pool3.storage.uris import ODD_KEY_SCHEMES, has_control_character

_TRUE = ("true", "1", "yes", "on")
_CONNECT_S = 10.0
_REQUEST_S = 60.0
# Errors of obstore: of a key in a listing, and of the prefix that is listed.
_INVALID_KEY, _INVALID_PREFIX = "invalid path", "Could not parse path"
# The keys of these buckets are not listed in their order.
_UNSORTED_BUCKET = "--x-s3"


def needs_arrow(uri: str) -> bool:
    """Return whether a canonical uri has a key that only Arrow's client reads."""
    return uri.startswith(ODD_KEY_SCHEMES) and has_control_character(uri)


def is_odd_key_error(error: Exception) -> bool:
    """Return whether obstore stopped a listing at a key that it does not allow."""
    return _INVALID_KEY in str(error)


def can_list(bucket: str, error: Exception) -> bool:
    """Return whether the rest of a listing that obstore stopped can be listed here."""
    stopped = is_odd_key_error(error) or _INVALID_PREFIX in str(error)
    return stopped and bucket.startswith(ODD_KEY_SCHEMES) and not bucket.endswith(_UNSORTED_BUCKET)


def walk(bucket: str, prefix: str, after: str) -> Iterator[tuple[str, int, datetime]]:
    """Yield key, bytes and time of every object below a prefix whose key sorts after another."""
    client, name = _place(bucket)
    start = after.encode()
    folder = f"{name}/{prefix}".rstrip("/")
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    for info in client.get_file_info(selector):
        key = info.path.removeprefix(f"{name}/")
        if info.type == fs.FileType.File and key.encode() > start:
            yield key, info.size, _time_of(info)


def stat(uri: str) -> list[tuple[int, datetime]]:
    """Return bytes and time of an object; nothing if it does not exist."""
    client, path = _place(uri)
    infos = client.get_file_info([path])
    return [(info.size, _time_of(info)) for info in infos if info.type == fs.FileType.File]


def open_file(uri: str) -> BinaryIO:
    """Open an object for reading at any position."""
    client, path = _place(uri)
    return cast(BinaryIO, client.open_input_file(path))


def read(uri: str, max_bytes: int | None) -> bytes:
    """Return the bytes of an object; raise `StorageError` if there are more than `max_bytes`."""
    client, path = _place(uri)
    with client.open_input_file(path) as file:
        check_size(uri, file.size(), max_bytes)
        return cast(bytes, file.read())


def _time_of(info: fs.FileInfo) -> datetime:
    return cast(datetime, info.mtime).astimezone(UTC)


def _place(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the client of a bucket or an object, and its path there."""
    scheme, _, path = uri.partition("://")
    return _google_client() if scheme == "gs" else _amazon_client(), path


@lru_cache(maxsize=1)
def _google_client_for(anonymous: bool) -> fs.GcsFileSystem:
    return fs.GcsFileSystem(anonymous=anonymous, retry_time_limit=timedelta(seconds=_REQUEST_S))


def _google_client() -> fs.GcsFileSystem:
    """Return a client with the credentials of Google's own chain, or without any."""
    return _google_client_for(os.environ.get("GOOGLE_SKIP_SIGNATURE", "").lower() in _TRUE)


@lru_cache(maxsize=1)
def _amazon_client_for(options: tuple[tuple[str, str | float | bool], ...]) -> fs.S3FileSystem:
    return fs.S3FileSystem(connect_timeout=_CONNECT_S, request_timeout=_REQUEST_S, **dict(options))


def _amazon_client() -> fs.S3FileSystem:
    """Return a client with the settings of the environment that obstore reads.

    Credentials come from the environment and the chain of Amazon's own client.
    """
    options: dict[str, str | float | bool] = {}
    endpoint = _setting("ENDPOINT_URL_S3", "ENDPOINT_URL", "ENDPOINT")
    if endpoint:
        address = urlsplit(endpoint)
        place = (address.netloc + address.path).rstrip("/")
        options |= {"scheme": address.scheme, "endpoint_override": place}
    region = _setting("REGION", "DEFAULT_REGION")
    if region:
        options["region"] = region
    if _setting("SKIP_SIGNATURE").lower() in _TRUE:
        options["anonymous"] = True
    if _setting("VIRTUAL_HOSTED_STYLE_REQUEST").lower() in _TRUE:
        options["force_virtual_addressing"] = True
    return _amazon_client_for(tuple(options.items()))


def _setting(*names: str) -> str:
    return next((os.environ[f"AWS_{name}"] for name in names if f"AWS_{name}" in os.environ), "")
