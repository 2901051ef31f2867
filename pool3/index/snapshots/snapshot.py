"""One snapshot of an index, opened: its manifest, its reduction, and where its files are.

Deliberately not here: what the files of a shard hold (`pool3.index.shards.reader`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pool3 import storage
from pool3.errors import InvalidIndex
from pool3.index.format.entries import ShardEntry
from pool3.index.format.manifest import Manifest
from pool3.index.reduction import Reduction
from pool3.index.snapshots.files import IndexFiles, stored_reduction
from pool3.index.snapshots.publication import newest_published, newest_snapshot, read_manifest


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of an index. It opens no shard, and pickles: Spark broadcasts it.

    Attributes
    ----------
    uri
        Canonical uri of the index's root.
    manifest
        What the snapshot consists of. One that is not written yet does as well, as long as the
        files that it names are stored.
    reduction
        From vectors to what the trees hold.
    files
        Opens the files that the manifest names.
    """

    uri: str
    manifest: Manifest
    reduction: Reduction
    files: IndexFiles

    @classmethod
    def of(cls, uri: str, manifest: Manifest, reduction: Reduction) -> Snapshot:
        """Return a snapshot whose reduction is at hand."""
        return cls(uri, manifest, reduction, IndexFiles(uri, manifest))

    def shard(self, number: int) -> StoredShard:
        """Return one shard, by its number in the manifest."""
        return StoredShard(self, self.manifest.shards[number])

    @property
    def searchable(self) -> list[int]:
        """Numbers of the shards that a search may find a row in, ascending."""
        return [entry.number for entry in self.manifest.shards if entry.live]


@dataclass(frozen=True)
class StoredShard:
    """One shard of a snapshot as it is stored: its manifest entry, and the way to its files."""

    snapshot: Snapshot
    entry: ShardEntry

    def uri(self, kind: str) -> str:
        """Return the canonical uri of a file, by its kind in `ShardEntry.files`."""
        return self.snapshot.files.uri_of(self.entry.files[kind])

    def pin(self, kind: str) -> storage.PinnedFile:
        """Return a file on local disk; raises as `IndexFiles.pin` does."""
        return self.snapshot.files.pin(self.entry.files[kind])

    def require(self, kind: str, what: str, expected: object, actual: object) -> None:
        """Raise `InvalidIndex` unless a file is what the manifest states."""
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
    """Open a snapshot: its manifest and its reduction, none of its shards.

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
        When there is no index or no such snapshot, or it is not what it should be.
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
