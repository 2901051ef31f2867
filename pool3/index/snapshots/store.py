"""Files of the next snapshot, each stored under a unique name and returned as manifest entry."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pool3 import storage
from pool3.index.format.entries import FileEntry, ReductionEntry
from pool3.index.reduction.pca import Reduction


def store_reduction(
    index_uri: str, reduction: Reduction, *, snapshot: int, unique: str
) -> ReductionEntry:
    """Store a reduction in the folder of the next snapshot, and return its manifest entry.

    Parameters
    ----------
    unique
        A name that no other attempt uses: two writers of the same snapshot must not share a file.
    """
    file = None
    if reduction.kind == "pca":
        path = f"snapshots/{snapshot:020d}/reduction-{unique}.safetensors"
        file = store_bytes(index_uri, path, reduction.to_bytes())
    return ReductionEntry(
        kind=reduction.kind,
        dimension=reduction.dimension,
        explained_variance=reduction.explained_variance,
        file=file,
    )


def store_bytes(index_uri: str, path: str, data: bytes) -> FileEntry:
    """Store bytes under a path that no other writer uses, and return the manifest entry."""
    storage.put(storage.join(index_uri, path), data)
    return FileEntry(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def store_file(index_uri: str, path: str, file: Path) -> FileEntry:
    """Store a local file under a path that no other writer uses; return the manifest entry."""
    storage.put_file(storage.join(index_uri, path), file)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return FileEntry(path=path, bytes=file.stat().st_size, sha256=digest)
