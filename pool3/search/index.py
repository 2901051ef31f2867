"""Opens an index and searches it: pictures, vectors or ids in, hits out.

An open index never changes, whatever is published later, and a search leaves no state in it.
Deliberately not here: Spark.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, cast, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from pool3.errors import UsageError
from pool3.index.recall.effort import check_count
from pool3.index.recall.plot import plot_recall
from pool3.index.snapshots.snapshot import Snapshot, open_snapshot, published_snapshot
from pool3.search.fan_out import FanOut
from pool3.search.hits import Hits
from pool3.search.info import index_info
from pool3.search.request import (
    BatchOptions,
    SearchOptions,
    SearchRequests,
    require_keywords,
    takes,
)
from pool3.search.searcher import Searcher
from pool3.vectors.distances import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

Picture: TypeAlias = str | Path | bytes | Image.Image | npt.NDArray[Any]
Vector: TypeAlias = npt.NDArray[Any]


def open_index(
    uri: str | os.PathLike[str],
    *,
    snapshot: int | None = None,
    cache_max_bytes: int | None = None,
    expected_sha256: str | None = None,
) -> Index:
    """Open an index for searching.

    Each file is checked against its SHA-256 in the manifest and memory-mapped. Files in a bucket
    are downloaded into the local cache first, which all processes of a machine share. Re-rank
    vectors are most of the bytes: if the cache has no room for them, they stay in the bucket, and
    each search fetches the rows that it re-ranks.

    Parameters
    ----------
    uri
        The index's root.
    snapshot
        Number of the snapshot; the newest published one when None.
    cache_max_bytes
        Most bytes in the cache, of all indexes together. The least recently used files are deleted
        to make room, except for those that a process has open. ``$POOL3_CACHE_MAX_BYTES`` when
        None; no limit without that. An index on a local disk is read in place.
    expected_sha256
        SHA-256 that the snapshot's manifest must have; the manifest has those of all other files.

    Raises
    ------
    InvalidIndex
        When there is no index or no such snapshot, its format is unknown, or files contradict the
        manifest.
    StorageError
        When a file is missing, damaged or cannot be reached.
    UsageError
        When the index without its re-rank vectors is larger than `cache_max_bytes`.

    Examples
    --------
    ::

        index = pool3.open("s3://lake/index")
        hits = index.search("photo.jpg", k=10)
    """
    if snapshot is not None:
        check_count("snapshot", snapshot)
    opened = open_snapshot(
        uri, snapshot, cache_max_bytes=cache_max_bytes, expected_sha256=expected_sha256
    )
    log.info("%s, snapshot %s: %s", opened.uri, opened.manifest.snapshot_id, opened.files)
    opened.files.require_room()
    return Index(opened, cache_max_bytes=cache_max_bytes, expected_sha256=expected_sha256)


class Index:
    """An open snapshot of an index; `pool3.open` returns it. Threads may share it.

    It pickles as its uri, its snapshot and the options that it was opened with, and is opened again
    where it is unpickled: an executor of Spark, a process of a pool.

    Parameters
    ----------
    snapshot
        The snapshot to search.
    cache_max_bytes, expected_sha256
        As for `open_index`.

    Attributes
    ----------
    uri
        Canonical uri of the index's root.
    manifest
        Contents of the snapshot.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        cache_max_bytes: int | None = None,
        expected_sha256: str | None = None,
    ) -> None:
        self.uri = snapshot.uri
        self.manifest = snapshot.manifest
        self._cache_max_bytes = cache_max_bytes
        self._expected_sha256 = expected_sha256
        self._fan_out = FanOut(snapshot)
        self._requests = SearchRequests(snapshot, self._fan_out.selections)
        self._searcher = Searcher(snapshot, self._fan_out)

    def __reduce__(self) -> tuple[Callable[..., Index], tuple[object, ...]]:
        return _opened_again, (
            self.uri,
            self.snapshot_id,
            self._cache_max_bytes,
            self._expected_sha256,
        )

    def __len__(self) -> int:
        return self.manifest.rows

    def __repr__(self) -> str:
        return (
            f"<pool3.Index {self.uri} snapshot {self.snapshot_id}: {len(self)} rows, "
            f"{self.manifest.dimension} numbers each, {self.manifest.metric}>"
        )

    @property
    def snapshot_id(self) -> int:
        """Number of the open snapshot."""
        return self.manifest.snapshot_id

    @property
    def metric(self) -> str:
        """``angular``, ``euclidean`` or ``dot``."""
        return self.manifest.metric

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.manifest.dimension

    @property
    def model_id(self) -> str | None:
        """The model that made the vectors; None for vectors without a model."""
        return self.manifest.model_id

    def info(self) -> dict[str, Any]:
        """Return a description of the index as plain values, for people and for JSON."""
        return index_info(self.uri, self.manifest)

    def plot_recall(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Plot the recall curve of the index; see `pool3.index.recall.plot.plot_recall`."""
        if self.manifest.recall is None:
            raise UsageError(
                f"the recall of {self.uri}, snapshot {self.snapshot_id}, was never measured; "
                "build the index again"
            )
        return plot_recall(self.manifest.recall, path)

    def refresh(self, *, expected_sha256: str | None = None) -> Index:
        """Open the newest published snapshot, with the options of this one.

        Parameters
        ----------
        expected_sha256
            As for `open_index`; required if this index was opened with one.

        Returns
        -------
        Index
            This index if no other snapshot was published since.
        """
        if self._expected_sha256 is not None and expected_sha256 is None:
            raise UsageError(
                f"{self.uri} was opened with expected_sha256, which only one manifest has; use "
                "refresh(expected_sha256=...) with that of the newest snapshot"
            )
        if published_snapshot(self.uri) == self.snapshot_id:
            return self
        return open_index(
            self.uri, cache_max_bytes=self._cache_max_bytes, expected_sha256=expected_sha256
        )

    @overload
    def search(
        self,
        query: Picture | Vector | None = None,
        *,
        image_id: str | None = None,
        k: int = 10,
        **options: Unpack[SearchOptions],
    ) -> Hits: ...

    @overload
    def search(
        self,
        query: list[Any] | tuple[Any, ...],
        *,
        k: int = 10,
        **options: Unpack[SearchOptions],
    ) -> list[Hits]: ...

    @takes(SearchOptions)
    def search(
        self,
        query: Any = None,
        *,
        image_id: str | None = None,
        k: int = 10,
        **options: Unpack[SearchOptions],
    ) -> Hits | list[Hits]:
        """Find the k nearest pictures.

        Parameters
        ----------
        query
            A path or uri, a picture file's bytes, a PIL image, a uint8 array (height, width, 3), a
            vector (any real dtype, (d,)), or a list or tuple of these.
        image_id
            Search with the stored vector of this picture instead; it is its own first hit.
        k
            How many hits; fewer only if the index has fewer rows.
        recall
            The share of the true neighbours that hits should include, 0 to 1 (default: 0.95). The
            search uses the cheapest measured effort whose 95 % interval is above it. It warns if
            there is none, or if nothing was measured for so many hits. Not together with the next
            two.
        search_k
            How many entries of the trees' leaves Annoy gathers over all shards (default: `rerank`
            of each tree). More entries include more of the true neighbours, but take longer; rows
            times trees is all of them.
        rerank
            How many of the nearest candidates in the reduced space, over all shards, are re-ranked
            by their exact distances (default: 100, or 2 k where that is more).
        where
            Only pictures that meet a condition, such as ``label = 'tram' AND width > 400``, on
            ``image_id`` and the columns of metadata (`pool3.filters.parser` has the language).
        distinct
            A column of which no two hits may have the same value; the nearest one of each value is
            returned. Any number of hits may have null.
        exclude_self
            Leave out the query's own picture: that of `image_id`, or of the path or uri.
        columns
            The columns of metadata that `Hits.to_pandas` has.
        vectors
            Whether the hits have their vectors, `Hits.vectors`.
        uri_map
            For pictures that were moved: prefixes of their uris, and what replaces them.

        Returns
        -------
        Hits, or a list of them for a list of queries
            Best first, ties by id.

        Raises
        ------
        UsageError
            For an invalid query or option.
        StorageError, PictureError
            When a picture cannot be fetched or decoded.
        """
        if (query is None) == (image_id is None):
            raise UsageError("search takes either a query or an image_id, exactly one of them")
        request = self._requests.make(k, options)
        if image_id is not None:
            return self._searcher.by_id(image_id, request)
        if isinstance(query, list | tuple):
            return self._searcher.by_each(query, request)
        return self._searcher.by_each([query], request)[0]

    def search_bytes(
        self, data: bytes, *, k: int = 10, where: str | None = None, recall: float | None = None
    ) -> Hits:
        """Search with a picture file's bytes, which may come from an untrusted source."""
        if not isinstance(data, bytes):
            raise UsageError(f"search_bytes takes bytes; found {type(data).__name__}")
        request = self._requests.make(k, {"where": where, "recall": recall})
        return self._searcher.by_each([data], request)[0]

    def search_id(
        self, image_id: str, *, k: int = 10, where: str | None = None, recall: float | None = None
    ) -> Hits:
        """Search with the stored vector of a picture of the index, which is its own first hit."""
        request = self._requests.make(k, {"where": where, "recall": recall})
        return self._searcher.by_id(image_id, request)

    def search_vector(
        self, vector: Vector, *, k: int = 10, where: str | None = None, recall: float | None = None
    ) -> Hits:
        """Search with a vector, any real dtype, (d,)."""
        request = self._requests.make(k, {"where": where, "recall": recall})
        return self._searcher.by_vector(np.asarray(vector), request)

    @takes(BatchOptions)
    def search_batch(
        self, vectors: Vector, k: int = 10, **options: Unpack[BatchOptions]
    ) -> tuple[npt.NDArray[np.object_], FloatArray]:
        """Search with many vectors.

        Parameters
        ----------
        vectors
            Any real dtype, (n, d).
        k, recall, search_k, rerank, where
            As for `search`.

        Returns
        -------
        ids : object (str), (n, m)
        distances : float64, (n, m)
            Best first; m is the smaller of k and the number of rows that pass, so all places have a
            hit.
        """
        require_keywords("search_batch", options, BatchOptions)
        request = self._requests.make(k, cast("SearchOptions", options))
        return self._searcher.by_batch(np.asarray(vectors), request)


def _opened_again(
    uri: str, snapshot: int, cache_max_bytes: int | None, expected_sha256: str | None
) -> Index:
    """Open the snapshot of an unpickled index."""
    return open_index(
        uri, snapshot=snapshot, cache_max_bytes=cache_max_bytes, expected_sha256=expected_sha256
    )
