"""Rows and vectors of a stored shard, read without opening its tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from pool3 import storage
from pool3.index.format.entries import IDS, VECTORS, ShardEntry
from pool3.index.format.npy import read_array
from pool3.index.shards.arrow_rows import ArrowRows, IdRows

Opened = TypeVar("Opened")


def open_rows(index_uri: str, entry: ShardEntry, kind: str) -> ArrowRows:
    """Open one of a shard's Arrow files, by its kind in `ShardEntry.files`.

    Raises
    ------
    InvalidIndex, StorageError
        When the file is missing, damaged, or not an Arrow file; when ids do not ascend.
    """
    return _opened(index_uri, entry, kind, IdRows if kind == IDS else ArrowRows)


def open_vectors(index_uri: str, entry: ShardEntry) -> npt.NDArray[Any]:
    """Map the stored vectors of a shard, (rows, d); raises as `open_rows` does."""
    return _opened(index_uri, entry, VECTORS, _mapped)


def _mapped(path: Path, uri: str) -> npt.NDArray[Any]:
    return read_array(path, uri, mmap_mode="r")


def _opened(
    index_uri: str, entry: ShardEntry, kind: str, open_file: Callable[[Path, str], Opened]
) -> Opened:
    file = entry.files[kind]
    uri = storage.join(index_uri, file.path)
    with storage.verified_file(uri, sha256=file.sha256, size=file.bytes) as pinned:
        return open_file(pinned.path, uri)
