"""Access to local files and object stores; everything that pool3 reads and writes goes through it.

Objects are named by canonical uris: an absolute POSIX path for a local file, otherwise
``s3://bucket/key``, ``gs://bucket/key``, ``az://container/key`` or
``abfss://container@account.dfs.core.windows.net/key`` with the key as it is, unescaped.
Pictures may also be read from ``hdfs://host:port/path``. Credentials, endpoints and regions come
from the environment and the usual provider chains, never from a uri. Writes are atomic. Delta
tables are in `pool3.storage.tables`.
"""

from pool3.storage.cache import (
    PinnedFile,
    is_remembered,
    remember,
    verified_bytes,
    verified_file,
)
from pool3.storage.cache_room import cache_limit
from pool3.storage.objects import (
    StoredObject,
    exists,
    fetch,
    is_directory,
    list_objects,
    open_input,
    put,
    put_file,
    put_if_absent,
)
from pool3.storage.ranged import fetch_ranges
from pool3.storage.uris import canonical_uri, is_local, join, name_of

__all__ = [
    "PinnedFile",
    "StoredObject",
    "cache_limit",
    "canonical_uri",
    "exists",
    "fetch",
    "fetch_ranges",
    "is_directory",
    "is_local",
    "is_remembered",
    "join",
    "list_objects",
    "name_of",
    "open_input",
    "put",
    "put_file",
    "put_if_absent",
    "remember",
    "verified_bytes",
    "verified_file",
]
