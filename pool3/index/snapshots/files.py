"""The files of one snapshot, wherever they are: in place, in the local cache, or read by ranges.

Deliberately not here: what the files hold (`pool3.index.shards.reader`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pool3 import storage
from pool3.errors import InvalidIndex, NotFound, SnapshotExpired, UsageError
from pool3.index.format.entries import EVIDENCE, VECTORS, FileEntry
from pool3.index.format.manifest import Manifest
from pool3.index.reduction import Reduction, load_reduction
from pool3.index.snapshots.publication import manifest_uri


class IndexFiles:
    """Opens the files that a manifest names, each checked by its SHA-256.

    Parameters
    ----------
    index_uri
        Canonical uri of the index's root.
    manifest
        The snapshot's.
    cache_max_bytes
        Most bytes of all cached files of this machine; ``$POOL3_CACHE_MAX_BYTES`` when None. An
        index on a local disk is read where it stands.

    Attributes
    ----------
    needed : int
        Bytes that a search cannot do without: reduction, trees, ids, metadata, tombstones.
    vectors : int
        Bytes of the re-rank vectors.
    """

    def __init__(
        self, index_uri: str, manifest: Manifest, cache_max_bytes: int | None = None
    ) -> None:
        self.index_uri = index_uri
        self._snapshot = manifest.snapshot_id
        self._max_bytes = cache_max_bytes
        reduction = manifest.reduction.file
        self.needed = 0 if reduction is None else reduction.bytes
        self.vectors = 0
        for shard in manifest.shards:
            for kind, file in shard.files.items() if shard.live else ():
                self.vectors += file.bytes * (kind == VECTORS)
                self.needed += file.bytes * (kind not in (VECTORS, EVIDENCE))

    @property
    def _limit(self) -> int | None:
        # Asked in the process that opens files: an executor has an environment of its own.
        if storage.is_local(self.index_uri):
            return None
        return storage.cache_limit(self._max_bytes)

    @property
    def ranged(self) -> bool:
        """Whether vectors are read row by row, since the cache may not hold them besides."""
        limit = self._limit
        return limit is not None and self.needed + self.vectors > limit

    def __str__(self) -> str:
        how = "read by ranges" if self.ranged else "mapped in memory"
        return f"{self.needed} bytes needed, and {self.vectors} bytes of vectors, {how}"

    def require_room(self) -> None:
        """Raise `UsageError` when the cache may not even hold what a search cannot do without."""
        limit = self._limit
        if limit is not None and self.needed > limit:
            raise UsageError(
                f"trees, ids and metadata of {self.index_uri}, snapshot {self._snapshot}, have "
                f"{self.needed} bytes, and cache_max_bytes or $POOL3_CACHE_MAX_BYTES allows "
                f"{limit}; raise it or build a smaller index"
            )

    def uri_of(self, file: FileEntry) -> str:
        """Return the canonical uri of a file."""
        return storage.join(self.index_uri, file.path)

    def pin(self, file: FileEntry) -> storage.PinnedFile:
        """Return a file on local disk that stays there while it is held.

        Raises
        ------
        SnapshotExpired
            When it was cleaned up together with the snapshot.
        InvalidIndex
            When it is missing although the snapshot is there.
        StorageError
            When it holds other bytes, cannot be reached, or the cache has no room for it.
        """
        with self._explained(file):
            return storage.verified_file(
                self.uri_of(file), sha256=file.sha256, size=file.bytes, max_bytes=self._max_bytes
            )

    def read(self, file: FileEntry) -> bytes:
        """Return the bytes of a file; raises as `pin` does, except that it needs no room."""
        with self._explained(file):
            return storage.verified_bytes(
                self.uri_of(file), sha256=file.sha256, size=file.bytes, max_bytes=self._max_bytes
            )

    def read_ranges(self, file: FileEntry, starts: Sequence[int], length: int) -> bytes:
        """Return ranges of equal length of a file in a bucket; raises as `pin` does."""
        with self._explained(file):
            return storage.fetch_ranges(self.uri_of(file), starts, length)

    @contextmanager
    def _explained(self, file: FileEntry) -> Iterator[None]:
        """Say what it means that a file is gone."""
        try:
            yield
        except NotFound as error:
            if storage.exists(manifest_uri(self.index_uri, self._snapshot)):
                raise InvalidIndex(
                    f"{self.uri_of(file)} is missing, and snapshot {self._snapshot} names it: the "
                    "index is damaged; restore the file or build the index again"
                ) from error
            raise SnapshotExpired(
                f"snapshot {self._snapshot} of {self.index_uri} has expired, and {file.path} is "
                "gone; open the newest with index.refresh(), or pool3.open anew"
            ) from error


def stored_reduction(files: IndexFiles, manifest: Manifest) -> Reduction:
    """Return the reduction of a snapshot; raises as `IndexFiles.pin` does."""
    entry = manifest.reduction
    if entry.file is None:
        return Reduction(manifest.metric, manifest.dimension)
    return load_reduction(
        files.read(entry.file),
        metric=manifest.metric,
        dimension=manifest.dimension,
        reduced=entry.dimension,
        explained_variance=entry.explained_variance,
    )
