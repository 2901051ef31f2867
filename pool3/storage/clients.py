"""Clients of buckets, created once per process, and the translation of their errors.

Endpoint, region, credentials, proxies and certificates come from the environment, under the names
that obstore reads: ``AWS_…`` for s3, ``GOOGLE_…`` for gs, ``AZURE_…`` for az and abfss.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn, cast

from obstore import exceptions, store

from pool3.errors import NotFound, StorageError, UsageError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

_DENIED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError)
_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "abfss": "AZURE_"}
# Options of the HTTP client that obstore reads from the environment, unless code passes any.
_CLIENT_OPTIONS = (
    "allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only",
    "pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes",
    "proxy_url", "randomize_addresses", "root_certificate", "user_agent",
)  # fmt: skip
# S3 answers 400 to these tokens. Without credentials, obstore requests some from the metadata
# service of the host, which does not exist or has none.
_NO_CREDENTIALS = re.compile(
    r"ExpiredToken|TokenRefreshRequired|InvalidToken|RequestTimeTooSkewed|//169\.254\.1(69\.254|70\.2)\b"
)
_QUERY = re.compile(r"\?[^\s)\"']*")


@lru_cache(maxsize=64)
def store_of(bucket: str) -> ObjectStore:
    """Return the client of one bucket, ``scheme://bucket``, created once per process.

    Raises
    ------
    UsageError
        The uri is one of ``hdfs://``, from which only pictures are read.
    """
    _require_bucket(bucket)
    return store.from_url(bucket)


@lru_cache(maxsize=64)
def hurried_store_of(bucket: str, limit_s: float, stall_s: float) -> ObjectStore:
    """Return a client that makes one attempt with a time limit, and stops when stalled.

    Parameters
    ----------
    bucket
        ``scheme://bucket``.
    limit_s
        Most seconds from the start of a request to the end of the response.
    stall_s
        Most seconds without a byte.
    """
    _require_bucket(bucket)
    options: dict[str, object] = dict(_environment_options(bucket))
    options |= {"timeout": timedelta(seconds=limit_s), "read_timeout": timedelta(seconds=stall_s)}
    return store.from_url(
        bucket, client_options=cast("ClientConfig", options), retry_config={"max_retries": 0}
    )


def _require_bucket(bucket: str) -> None:
    if bucket.startswith("hdfs:"):
        raise UsageError(
            f"expected a bucket or a local folder for anything but pictures, found {bucket}; "
            "store tables, models and indexes in one of those"
        )


def _environment_options(bucket: str) -> dict[str, str]:
    prefix = _PREFIXES[bucket.partition("://")[0]]
    wanted = {prefix + name.upper(): name for name in _CLIENT_OPTIONS}
    return {
        wanted[name.upper()]: value for name, value in os.environ.items() if name.upper() in wanted
    }


def raise_mapped(uri: str, error: Exception, note: str = "") -> NoReturn:
    """Raise the `StorageError` that corresponds to an error of an object store."""
    if isinstance(error, (exceptions.NotFoundError, FileNotFoundError)):
        raise NotFound(f"there is no object {uri}") from error
    # A query string may contain a signature that grants access to the object.
    reason = _QUERY.sub("?…", str(error).split("\n", 1)[0])
    if isinstance(error, _DENIED) or _NO_CREDENTIALS.search(str(error)):
        raise StorageError("denied", f"access to {uri} was refused: {reason}") from error
    also = f" ({note})" if note else ""
    raise StorageError("fetch_failed", f"{uri} could not be reached: {reason}{also}") from error
