"""Checks which uris from the rows of a table may be fetched.

A row is untrusted data. No parser that accepts options sees it: a uri that could contain
credentials, or lead out of the allowed prefixes, is refused, and `%`, `?` and `#` are ordinary
characters of a key. A local path is checked by its text; links below an allowed folder are
followed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from pool3 import storage
from pool3.errors import UsageError
from pool3.storage.uris import unreachable

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_WITH_ACCOUNT = ("abfss", "abfs", "wasbs", "wasb")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?")

NO_URI = "no uri"


class RowUri(NamedTuple):
    """A uri as it is stored in the table, and why it must not be fetched (None if it may be)."""

    uri: str
    refused: str | None


class RowUris:
    """Checks uris against the prefixes that the user allowed.

    Parameters
    ----------
    allowed
        Folders, local or remote; uris below one of them may be fetched.

    Examples
    --------
    >>> uris = RowUris(["s3://lake/photos"])
    >>> uris.judge("s3://lake/photos/100%.jpg")
    RowUri(uri='s3://lake/photos/100%.jpg', refused=None)
    >>> uris.judge("s3://lake/photos-2/a.jpg").refused
    'not below a prefix of --allow-uri'
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = tuple(f"{storage.canonical_uri(prefix).rstrip('/')}/" for prefix in allowed)

    def judge(self, text: str | None) -> RowUri:
        """Return the uri to store, canonical if it may be fetched, and the reason of a refusal."""
        if not text:
            return RowUri("", NO_URI)
        refused = _refusal(text)
        if refused is not None:
            return RowUri(_without_secrets(text), refused)
        try:
            uri = storage.canonical_uri(text)
        except UsageError:
            return RowUri(_without_secrets(text), "a kind of uri that is not fetched")
        if not uri.startswith(self._allowed):
            return RowUri(uri, "not below a prefix of --allow-uri")
        return RowUri(uri, unreachable(uri))


def _refusal(text: str) -> str | None:
    """Return why the text itself is refused, whatever the prefixes; None if it is not."""
    segments = text.split("/")
    if "\0" in text or ".." in segments or segments[-1] in ("", "."):
        return "a NUL character, a '..' segment or no name at its end"
    match = _SCHEME.fullmatch(text)
    if match is None:
        return None if text.startswith("/") else "a relative path"
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        return _file_refusal(rest)
    return _remote_refusal(scheme, rest)


def _file_refusal(rest: str) -> str | None:
    if rest.startswith("//") and not rest.startswith(("///", "//localhost/")):
        return "a file uri with a host"
    return None if rest.startswith("/") else "a relative path"


def _remote_refusal(scheme: str, rest: str) -> str | None:
    if scheme in ("http", "https"):
        return f"{scheme} is not fetched"
    if not rest.startswith("//"):
        return f"not {scheme}://bucket/key"
    bucket, _, key = rest[2:].partition("/")
    if scheme in _WITH_ACCOUNT:
        return None if key else "it names no object"  # its '@' is checked with its host
    if "@" in bucket:
        return "credentials before an '@'"
    if not (_HOST if scheme == "hdfs" else _BUCKET).fullmatch(bucket):
        return "not the name of a bucket"
    return None if key else "it names no object"


def _without_secrets(text: str) -> str:
    """Return a refused uri without secrets; a digest distinguishes uris that then look the same."""
    if text.startswith("/"):
        return text
    shown = re.sub(r"(?<=//)[^/]*@", "***@", text, count=1)
    shown = re.sub(r"\?.*", "?***", shown, flags=re.DOTALL)  # a signature, perhaps
    if shown == text:
        return text
    return f"{shown} ({hashlib.sha256(text.encode()).hexdigest()[:12]})"
