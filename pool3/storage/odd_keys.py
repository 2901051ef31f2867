"""Keys in S3 that obstore does not allow: listed and read with Arrow's client instead.

obstore fails to list a whole prefix when one key below it has an empty, ``.`` or ``..`` segment or
a control character. Arrow's client lists them all, and reads those with control characters. Only
such keys come here, since it lists no etags and has the keys of a prefix in memory at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from pyarrow import fs

from pool3.storage.local import check_size
from pool3.storage.uris import has_control_character

_TRUE = ("true", "1", "yes", "on")
_CONNECT_S = 10.0
_REQUEST_S = 60.0
# Errors of obstore: of a key in a listing, and of the prefix that is listed.
_INVALID_KEY, _INVALID_PREFIX = "invalid path", "Could not parse path"
# The keys of these buckets are not listed in their order.
_UNSORTED_BUCKET = "--x-s3"


def needs_arrow(uri: str) -> bool:
    """Return whether a canonical uri has a key in S3 that only Arrow's client reads."""
    return uri.startswith("s3://") and has_control_character(uri)


def is_odd_key_error(error: Exception) -> bool:
    """Return whether obstore stopped a listing at a key that it does not allow."""
    return _INVALID_KEY in str(error)


def can_list(bucket: str, error: Exception) -> bool:
    """Return whether the rest of a listing that obstore stopped can be listed here."""
    stopped = is_odd_key_error(error) or _INVALID_PREFIX in str(error)
    return stopped and bucket.startswith("s3://") and not bucket.endswith(_UNSORTED_BUCKET)


def walk(bucket: str, prefix: str, after: str) -> Iterator[tuple[str, int, datetime]]:
    """Yield key, bytes and time of every object below a prefix whose key sorts after another."""
    name = bucket.removeprefix("s3://")
    start = after.encode()
    folder = f"{name}/{prefix}".rstrip("/")
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    for info in _client().get_file_info(selector):
        key = info.path.removeprefix(f"{name}/")
        if info.type == fs.FileType.File and key.encode() > start:
            yield key, info.size, _time_of(info)


def stat(uri: str) -> list[tuple[int, datetime]]:
    """Return bytes and time of an object; nothing if it does not exist."""
    infos = _client().get_file_info([uri.removeprefix("s3://")])
    return [(info.size, _time_of(info)) for info in infos if info.type == fs.FileType.File]


def open_file(uri: str) -> BinaryIO:
    """Open an object for reading at any position."""
    return cast(BinaryIO, _client().open_input_file(uri.removeprefix("s3://")))


def read(uri: str, max_bytes: int | None) -> bytes:
    """Return the bytes of an object; raise `StorageError` if there are more than `max_bytes`."""
    with _client().open_input_file(uri.removeprefix("s3://")) as file:
        check_size(uri, file.size(), max_bytes)
        return cast(bytes, file.read())


def _time_of(info: fs.FileInfo) -> datetime:
    return cast(datetime, info.mtime).astimezone(UTC)


@lru_cache(maxsize=1)
def _client_for(options: tuple[tuple[str, str | float | bool], ...]) -> fs.S3FileSystem:
    return fs.S3FileSystem(connect_timeout=_CONNECT_S, request_timeout=_REQUEST_S, **dict(options))


def _client() -> fs.S3FileSystem:
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
    return _client_for(tuple(options.items()))


def _setting(*names: str) -> str:
    return next((os.environ[f"AWS_{name}"] for name in names if f"AWS_{name}" in os.environ), "")
