"""An open snapshot of an index: its manifest, its reduction, and access to its files.

Deliberately not here: reading the files of a shard (`pool3.index.shards.reader`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pool3 import storage
from pool3.errors import InvalidIndex
from pool3.index.format.entries import ShardEntry
from pool3.index.format.manifest import Manifest
from pool3.index.reduction.pca import Reduction
from pool3.index.snapshots.files import IndexFiles, stored_reduction
from pool3.index.snapshots.publication import newest_published, newest_snapshot, read_manifest


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of an index, without any open shard. It pickles, so Spark can broadcast it.

    Attributes
    ----------
    uri
        Canonical uri of the index's root.
    manifest
        Contents of the snapshot. It need not be written yet, as long as the files that it names
        are stored.
    reduction
        Turns vectors into the reduced vectors of the trees.
    files
        Opens the files that the manifest names.
    """

    uri: str
    manifest: Manifest
    reduction: Reduction
    files: IndexFiles

    @classmethod
    def of(cls, uri: str, manifest: Manifest, reduction: Reduction) -> Snapshot:
        """Return a snapshot whose reduction is in memory already."""
        return cls(uri, manifest, reduction, IndexFiles(uri, manifest))

    def shard(self, number: int) -> StoredShard:
        """Return one shard, by its number in the manifest."""
        return StoredShard(self, self.manifest.shards[number])

    @property
    def searchable(self) -> list[int]:
        """Numbers of the shards with live rows, ascending."""
        return [entry.number for entry in self.manifest.shards if entry.live]


@dataclass(frozen=True)
class StoredShard:
    """One shard of a snapshot as it is stored: its manifest entry and access to its files."""

    snapshot: Snapshot
    entry: ShardEntry

    def uri(self, kind: str) -> str:
        """Return the canonical uri of a file, by its kind in `ShardEntry.files`."""
        return self.snapshot.files.uri_of(self.entry.files[kind])

    def pin(self, kind: str) -> storage.PinnedFile:
        """Return a file on local disk, by its kind; raises as `IndexFiles.pin` does."""
        return self.snapshot.files.pin(self.entry.files[kind])

    def require(self, kind: str, what: str, expected: object, actual: object) -> None:
        """Raise `InvalidIndex` unless a file has a property that the manifest states."""
        if expected != actual:
            raise InvalidIndex(
                f"{self.uri(kind)} must have {what} {expected}, as the manifest states; "
                f"found {actual}"
            )


def open_snapshot(
    where: str | os.PathLike[str],
    snapshot: int | None = None,
    *,
    cache_max_bytes: int | None = None,
    expected_sha256: str | None = None,
) -> Snapshot:
    """Open a snapshot: read its manifest and its reduction, but none of its shards.

    Parameters
    ----------
    where
        The index's root.
    snapshot
        Which snapshot; the newest published one when None.
    cache_max_bytes
        As for `pool3.index.snapshots.files.IndexFiles`.
    expected_sha256
        SHA-256 that the manifest must have; any when None.

    Raises
    ------
    InvalidIndex
        When there is no index or no such snapshot, or it is not valid.
    StorageError
        When a file is missing, damaged or cannot be reached.
    """
    root = storage.canonical_uri(where)
    number = published_snapshot(root) if snapshot is None else snapshot
    manifest = read_manifest(root, number, expected_sha256=expected_sha256)
    files = IndexFiles(root, manifest, cache_max_bytes)
    return Snapshot(root, manifest, stored_reduction(files, manifest), files)


def published_snapshot(root: str) -> int:
    """Return the newest published snapshot of an index.

    Raises
    ------
    InvalidIndex
        When none was published.
    """
    published = newest_published(root)
    if published is not None:
        return published
    newest = newest_snapshot(root)
    if newest is None:
        raise InvalidIndex(f"{root} is not an index: no snapshot was ever published there")
    raise InvalidIndex(
        f"no snapshot of {root} was published; the newest is {newest}: publish it, or open it "
        f"with snapshot={newest}"
    )
