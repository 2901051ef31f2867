"""Canonical uris: one spelling for each object."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath

from pool3.errors import UsageError

REMOTE_SCHEMES = ("s3", "gs", "az", "hdfs")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def canonical_uri(where: str | os.PathLike[str]) -> str:
    """Return the canonical uri of an object or folder.

    Parameters
    ----------
    where
        A local path (made absolute, links kept), a ``file://`` uri, or ``scheme://bucket/key``
        with scheme ``s3``, ``gs``, ``az``, or ``hdfs`` (there the bucket is ``host:port`` of a name
        node, or the name of a service). The key is taken literally: ``%`` and ``#`` are
        ordinary characters.

    Returns
    -------
    str
        Without a trailing slash.

    Raises
    ------
    UsageError
        The scheme is not supported, or the uri has credentials before an ``@`` or a ``..``
        segment in its key.

    Examples
    --------
    >>> canonical_uri("s3://lake/photos/a b.jpg")
    's3://lake/photos/a b.jpg'
    >>> canonical_uri("/data/x/../y/")
    '/data/y'
    """
    text = os.fspath(where)
    match = _SCHEME.fullmatch(text)
    if match is None:
        return _local_path(text)
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        return _local_path("/" + rest.removeprefix("localhost").lstrip("/"))
    if scheme not in REMOTE_SCHEMES:
        raise UsageError(
            f"expected a local path or a uri of {', '.join(REMOTE_SCHEMES)}, found {scheme}:// "
            f"in {text!r}; copy the data to one of these"
        )
    return f"{scheme}://{_checked_key(text, rest)}"


def _local_path(text: str) -> str:
    if "\0" in text or not text:
        raise UsageError(f"expected a path, found {text!r}; name a file or a folder")
    # A file name that is not UTF-8 cannot be stored in a table, so its bytes are escaped.
    path = os.fsencode(os.path.abspath(text)).decode("utf-8", "backslashreplace")
    return "/" + path.lstrip("/")


def _checked_key(uri: str, rest: str) -> str:
    bucket, _, key = rest.rstrip("/").partition("/")
    if not bucket or "@" in bucket or "?" in bucket:
        raise UsageError(
            f"expected scheme://bucket/key, found {_without_credentials(uri)!r}; credentials and "
            "options come from the environment, not from the uri"
        )
    if ".." in key.split("/"):
        raise UsageError(f"expected a key without '..', found {uri!r}; resolve the path")
    return f"{bucket}/{key}" if key else bucket


def _without_credentials(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", uri)


def is_local(uri: str) -> bool:
    """Return whether a canonical uri names a local file."""
    return uri.startswith("/")


def join(uri: str, *names: str) -> str:
    """Return the canonical uri of an object or folder below `uri`.

    Raises
    ------
    UsageError
        A name is absolute or has a ``..`` segment.
    """
    for name in names:
        if name.startswith("/") or ".." in name.split("/"):
            raise UsageError(
                f"expected a relative name below {uri}, found {name!r}; use one without '..'"
            )
    return "/".join([uri.rstrip("/"), *(name.strip("/") for name in names)])


def name_of(uri: str) -> str:
    """Return the last segment of a uri."""
    return PurePosixPath(uri).name


def split_remote(uri: str) -> tuple[str, str]:
    """Return ``(scheme://bucket, key)`` of a remote canonical uri."""
    scheme, rest = uri.split("://", 1)
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key
