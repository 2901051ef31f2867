"""Canonical uris: one spelling for each object.

Uris mean what they mean to Spark: the schemes of Hadoop's file systems are other names of the same
stores, and nothing in a key is an escape or an option.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from urllib.parse import quote

from pool3.errors import UsageError

REMOTE_SCHEMES = ("s3", "gs", "az", "hdfs")
#: Stores whose keys with control characters are read, by a second client.
ODD_KEY_SCHEMES = ("s3://", "gs://")
_OTHER_NAMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
_AZURE = ("abfss", "abfs", "wasbs", "wasb")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_FILE = re.compile(r"file:(?://(?P<host>[^/]*))?(?P<path>/.*)?", re.DOTALL | re.IGNORECASE)
_AZURE_PLACE = re.compile(
    r"(?P<container>[A-Za-z0-9$][A-Za-z0-9_-]*)@(?P<account>[A-Za-z0-9][A-Za-z0-9-]*)"
    r"\.(?:dfs|blob)\.(?P<cloud>core\.windows\.net|fabric\.microsoft\.com)",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def canonical_uri(where: str | os.PathLike[str]) -> str:
    """Return the canonical uri of an object or folder.

    Parameters
    ----------
    where
        A local path (made absolute, links kept), a ``file:/path`` or ``file:///path`` uri, or
        ``scheme://bucket/key`` with scheme ``s3``, ``gs``, ``az``, or ``hdfs`` (there the bucket is
        ``host:port`` of a name node, or the name of a service). ``s3a`` and ``s3n`` mean ``s3``,
        ``gcs`` means ``gs``. ``abfss://container@account.dfs.core.windows.net/key`` names an
        account of Azure, as do ``abfs``, ``wasbs`` and ``wasb``; ``az://container`` is in the
        account that the environment names. The key is taken literally: ``%``, ``?`` and ``#`` are
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
    >>> canonical_uri("s3a://lake/photos/a b.jpg")
    's3://lake/photos/a b.jpg'
    >>> canonical_uri("file:/data/x/../y/")
    '/data/y'
    """
    text = os.fspath(where)
    file = _FILE.fullmatch(text)
    if file is not None and (file["host"] is not None or file["path"] is not None):
        return _local_path(_path_of_file(text, file))
    match = _SCHEME.fullmatch(text)
    if match is None:
        return _local_path(text)
    scheme, rest = match[1].lower(), match[2].rstrip("/")
    scheme = _OTHER_NAMES.get(scheme, scheme)
    if scheme in _AZURE:
        return _azure_uri(text, rest)
    if scheme not in REMOTE_SCHEMES:
        raise UsageError(
            f"expected a local path or a uri of {', '.join(REMOTE_SCHEMES)}, found {scheme}:// "
            f"in {_without_credentials(text)!r}; copy the data to one of these"
        )
    bucket, _, key = rest.partition("/")
    if not bucket or set("@?#") & set(bucket):
        raise UsageError(
            f"expected scheme://bucket/key, found {_without_credentials(text)!r}; credentials and "
            "options come from the environment, not from the uri"
        )
    return _with_key(text, f"{scheme}://{bucket}", _hdfs_key(key) if scheme == "hdfs" else key)


def _path_of_file(text: str, file: re.Match[str]) -> str:
    if (file["host"] or "").lower() not in ("", "localhost"):
        raise UsageError(
            f"expected a file uri without a host, found {_without_credentials(text)!r}; write "
            "file:///path"
        )
    return file["path"] or "/"


def _local_path(text: str) -> str:
    if "\0" in text or not text:
        raise UsageError(f"expected a path, found {text!r}; name a file or a folder")
    # A file name that is not UTF-8 cannot be stored in a table, so its bytes are escaped.
    path = os.fsencode(os.path.abspath(text)).decode("utf-8", "backslashreplace")
    return "/" + path.lstrip("/")


def _azure_uri(text: str, rest: str) -> str:
    """Return the uri of an object in Azure, in the form that names its account if it does."""
    place, _, key = rest.partition("/")
    match = _AZURE_PLACE.fullmatch(place)
    if match is not None:
        host = f"{match['account']}.dfs.{match['cloud']}".lower()
        return _with_key(text, f"abfss://{match['container']}@{host}", key)
    if not place or set("@?#:") & set(place):
        raise UsageError(
            f"expected abfss://container@account.dfs.core.windows.net/key, found "
            f"{_without_credentials(text)!r}; use that form, or az://container/key for the account "
            "that the environment names"
        )
    return _with_key(text, f"az://{place}", key)


def _hdfs_key(key: str) -> str:
    """Return a path in HDFS as the name node reads it: without empty and ``.`` segments."""
    return "/".join(segment for segment in key.split("/") if segment not in ("", "."))


def _with_key(text: str, bucket: str, key: str) -> str:
    if ".." in key.split("/"):
        raise UsageError(f"expected a key without '..', found {text!r}; resolve the path")
    return f"{bucket}/{key}" if key else bucket


def _without_credentials(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", uri)


def has_control_character(uri: str) -> bool:
    """Return whether a uri has a tab, a line feed or the like, which obstore does not allow."""
    return _CONTROL.search(uri) is not None


def unreachable(uri: str) -> str | None:
    """Return why no client can fetch an object with this canonical uri; None if it can.

    Buckets can have such keys. They are listed, so that each of them is an input with an error
    rather than missing.

    Examples
    --------
    >>> unreachable("s3://lake/a//b.jpg")
    "a key with an empty, '.' or '..' segment, which clients of buckets do not send"
    """
    if is_local(uri) or uri.startswith("hdfs:"):
        return None
    _, key = split_remote(uri)
    if key and not {"", ".", ".."}.isdisjoint(key.split("/")):
        return "a key with an empty, '.' or '..' segment, which clients of buckets do not send"
    if not uri.startswith(ODD_KEY_SCHEMES) and has_control_character(key):
        return "a key with a control character, which the client of this store does not send"
    return None


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


def is_table_location(uri: str) -> bool:
    """Return whether deltalake can have a table there: it reads a ``%`` as an escape, twice."""
    return _ESCAPE.search(uri) is None


def table_location(uri: str) -> str:
    """Return a canonical uri as deltalake takes it, which reads ``?`` and ``#`` as ends of a key.

    Raises
    ------
    UsageError
        deltalake cannot have a table there.

    Examples
    --------
    >>> table_location("s3://lake/what?")
    's3://lake/what%3F'
    """
    if not is_table_location(uri):
        raise UsageError(
            f"expected a table without '%' and two hexadecimal digits in its uri, found {uri}; "
            "copy or rename it"
        )
    if is_local(uri):
        return uri
    bucket, key = split_remote(uri)
    return f"{bucket}/{quote(key)}"


def split_remote(uri: str) -> tuple[str, str]:
    """Return ``(scheme://bucket, key)`` of a remote canonical uri."""
    scheme, rest = uri.split("://", 1)
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key
