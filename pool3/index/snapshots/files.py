"""The files of one snapshot: read in place, from the local cache, or by ranges from a bucket.

Deliberately not here: what the files hold (`pool3.index.shards.reader`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pool3 import storage
from pool3.errors import InvalidIndex, NotFound, SnapshotExpired, UsageError
from pool3.index.format.entries import EVIDENCE, VECTORS, FileEntry
from pool3.index.format.manifest import Manifest
from pool3.index.reduction.pca import Reduction, load_reduction
from pool3.index.snapshots.publication import manifest_uri


class IndexFiles:
    """Opens the files that a manifest names; each is checked by its SHA-256.

    Parameters
    ----------
    index_uri
        Canonical uri of the index's root.
    manifest
        The snapshot's.
    cache_max_bytes
        Limit of all cached files of this machine together; ``$POOL3_CACHE_MAX_BYTES`` when None. An
        index on a local disk is read in place.

    Attributes
    ----------
    required_bytes : int
        Size of the files that every search needs: reduction, trees, ids, metadata, tombstones.
    vector_bytes : int
        Size of the re-rank vectors.
    """

    def __init__(
        self, index_uri: str, manifest: Manifest, cache_max_bytes: int | None = None
    ) -> None:
        self.index_uri = index_uri
        self._snapshot = manifest.snapshot_id
        self._max_bytes = cache_max_bytes
        reduction = manifest.reduction.file
        self.required_bytes = 0 if reduction is None else reduction.bytes
        self.vector_bytes = 0
        for shard in manifest.shards:
            for kind, file in shard.files.items() if shard.live else ():
                self.vector_bytes += file.bytes * (kind == VECTORS)
                self.required_bytes += file.bytes * (kind not in (VECTORS, EVIDENCE))

    @property
    def _limit(self) -> int | None:
        # Read in the process that opens files: an executor has its own environment.
        if storage.is_local(self.index_uri):
            return None
        return storage.cache_limit(self._max_bytes)

    @property
    def ranged(self) -> bool:
        """Whether vectors are read by ranges, because the cache has no room for them."""
        limit = self._limit
        return limit is not None and self.required_bytes + self.vector_bytes > limit

    def __str__(self) -> str:
        access = "read by ranges" if self.ranged else "mapped in memory"
        vectors = f"{self.vector_bytes} bytes of vectors, {access}"
        return f"{self.required_bytes} bytes needed, and {vectors}"

    def require_room(self) -> None:
        """Raise `UsageError` when the cache has no room for the files that every search needs."""
        limit = self._limit
        if limit is not None and self.required_bytes > limit:
            raise UsageError(
                f"trees, ids and metadata of {self.index_uri}, snapshot {self._snapshot}, have "
                f"{self.required_bytes} bytes, and cache_max_bytes or $POOL3_CACHE_MAX_BYTES "
                f"allows {limit}; raise it or build a smaller index"
            )

    def uri_of(self, file: FileEntry) -> str:
        """Return the canonical uri of a file."""
        return storage.join(self.index_uri, file.path)

    def pin(self, file: FileEntry) -> storage.PinnedFile:
        """Return a file on local disk, which stays there as long as the result is referenced.

        Raises
        ------
        SnapshotExpired
            When the file was deleted because the snapshot expired.
        InvalidIndex
            When the file is missing although the snapshot exists.
        StorageError
            When the file has other bytes, cannot be reached, or the cache has no room for it.
        """
        with self._explaining(file):
            return storage.verified_file(
                self.uri_of(file), sha256=file.sha256, size=file.bytes, max_bytes=self._max_bytes
            )

    def read(self, file: FileEntry) -> bytes:
        """Return the bytes of a file; raises as `pin` does, except for `CacheFull`."""
        with self._explaining(file):
            return storage.verified_bytes(
                self.uri_of(file), sha256=file.sha256, size=file.bytes, max_bytes=self._max_bytes
            )

    def read_ranges(self, file: FileEntry, starts: Sequence[int], length: int) -> bytes:
        """Return ranges of equal length of a file in a bucket; raises as `pin` does."""
        with self._explaining(file):
            return storage.fetch_ranges(self.uri_of(file), starts, length)

    @contextmanager
    def _explaining(self, file: FileEntry) -> Iterator[None]:
        """Turn a missing file into an expired snapshot or a damaged index."""
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
                "gone; open the newest snapshot with index.refresh() or pool3.open"
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
