"""pool3 finds the pictures in a data lake that look like a given one.

::

    import pool3

    index = pool3.open("s3://lake/index")
    hits = index.search("photo.jpg", k=10)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pool3.errors import (
    AlreadyExists,
    CacheFull,
    EngineMissing,
    GateError,
    InvalidIndex,
    ModelError,
    NotFound,
    PictureError,
    Pool3Error,
    SnapshotExpired,
    StorageError,
    UsageError,
)

if TYPE_CHECKING:
    from pool3.search.hits import Hit, Hits
    from pool3.search.index import Index
    from pool3.search.index import open_index as open

__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
    "CacheFull",
    "EngineMissing",
    "GateError",
    "Hit",
    "Hits",
    "Index",
    "InvalidIndex",
    "ModelError",
    "NotFound",
    "PictureError",
    "Pool3Error",
    "SnapshotExpired",
    "StorageError",
    "UsageError",
    "open",
]

# Resolved on first use: executors import this package and do not need the search.
_LAZY = {
    "Hit": ("pool3.search.hits", "Hit"),
    "Hits": ("pool3.search.hits", "Hits"),
    "Index": ("pool3.search.index", "Index"),
    "open": ("pool3.search.index", "open_index"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
