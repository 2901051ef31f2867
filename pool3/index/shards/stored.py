"""Vectors and rows of a stored shard, read without opening its tree."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from pool3 import storage
from pool3.index.format.entries import VECTORS, ShardEntry
from pool3.index.format.npy import read_array
from pool3.index.shards.arrow_rows import ArrowRows


def open_rows(index_uri: str, entry: ShardEntry, kind: str) -> ArrowRows:
    """Open one of a shard's Arrow files, checked against its entry."""
    file = entry.files[kind]
    uri = storage.join(index_uri, file.path)
    with storage.verified_file(uri, sha256=file.sha256, size=file.bytes) as held:
        return ArrowRows(held.path, uri)


def open_vectors(index_uri: str, entry: ShardEntry) -> npt.NDArray[Any]:
    """Map the stored vectors of a shard, (rows, d)."""
    file = entry.files[VECTORS]
    uri = storage.join(index_uri, file.path)
    with storage.verified_file(uri, sha256=file.sha256, size=file.bytes) as held:
        return read_array(held.path, uri, mmap_mode="r")
