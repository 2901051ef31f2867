"""Searching an index: pictures, vectors or ids in, hits out.

Deliberately not here: Spark, and any state that a search would leave behind; an open index never
changes, whatever is published after it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from pool3 import storage
from pool3.distances import FloatArray
from pool3.errors import InvalidIndex, UsageError
from pool3.hits import Hits
from pool3.index.depth import Depth, check_count, depth_of
from pool3.index.fan_out import FanOut
from pool3.index.files import IndexFiles, stored_reduction
from pool3.index.manifest import Manifest
from pool3.index.publication import newest_published, newest_snapshot, read_manifest
from pool3.query_pictures import PictureModel, as_picture, small_copy

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

    Every file is checked against the manifest's SHA-256 and memory-mapped; those of a bucket are
    downloaded into the local cache first, which all processes of a machine share. Re-rank vectors
    are most of the bytes: where the cache may not hold them besides the rest, they stay in the
    bucket, and each search fetches those that it measures.

    Parameters
    ----------
    uri
        The index's root.
    snapshot
        Which snapshot; the newest published one when None.
    cache_max_bytes
        Most bytes that the cache may hold, of all indexes together: what was not used for longest
        makes room, except for what a process has open. ``$POOL3_CACHE_MAX_BYTES`` when None; no
        limit without that. An index on a local disk is read where it stands.
    expected_sha256
        SHA-256 that the snapshot's manifest must have. It names all other files by theirs.

    Raises
    ------
    InvalidIndex
        When there is no index or no such snapshot, its format is unknown, or files contradict it.
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
    root = storage.canonical_uri(uri)
    number = _published(root) if snapshot is None else snapshot
    manifest = read_manifest(root, number, expected_sha256=expected_sha256)
    files = IndexFiles(root, manifest, cache_max_bytes)
    log.info("%s, snapshot %s: %s", root, number, files.told())
    files.require_room()
    return Index(root, manifest, cache_max_bytes=cache_max_bytes)


def _published(root: str) -> int:
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


class Index:
    """An open snapshot of an index; `pool3.open` makes it. Threads may share it.

    Parameters
    ----------
    uri
        Canonical uri of the index's root.
    manifest
        The snapshot's.
    cache_max_bytes
        As for `open_index`.

    Attributes
    ----------
    uri
        Where the index is.
    manifest
        What the snapshot consists of.
    """

    def __init__(self, uri: str, manifest: Manifest, *, cache_max_bytes: int | None = None) -> None:
        self.uri = uri
        self.manifest = manifest
        self._model = PictureModel(uri, manifest)
        reduction = stored_reduction(IndexFiles(uri, manifest, cache_max_bytes), manifest)
        self._fan_out = FanOut(uri, manifest, reduction, cache_max_bytes)

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
        """The model that made the vectors; None when they came without one."""
        return self.manifest.model_id

    def info(self) -> dict[str, Any]:
        """Return what the index is, as plain values for a person or for JSON."""
        manifest = self.manifest
        return {
            "uri": self.uri,
            "snapshot_id": manifest.snapshot_id,
            "created_at": manifest.created_at,
            "run_id": manifest.run_id,
            "rows": manifest.rows,
            "counts": dict(manifest.counts),
            "metric": manifest.metric,
            "dimension": manifest.dimension,
            "reduced_dimension": manifest.reduction.dimension,
            "explained_variance": manifest.reduction.explained_variance,
            "n_trees": manifest.n_trees,
            "n_shards": len(manifest.shards),
            "vectors_dtype": manifest.vectors_dtype,
            "bytes": manifest.bytes,
            "model_id": manifest.model_id,
            "searches_pictures": manifest.model is not None,
            "table": manifest.table.uri,
            "table_version": manifest.table.version,
        }

    @overload
    def search(
        self,
        query: Picture | Vector | None = None,
        *,
        image_id: str | None = None,
        k: int = 10,
        search_k: int | None = None,
        rerank: int | None = None,
    ) -> Hits: ...

    @overload
    def search(
        self,
        query: list[Any] | tuple[Any, ...],
        *,
        k: int = 10,
        search_k: int | None = None,
        rerank: int | None = None,
    ) -> list[Hits]: ...

    def search(
        self,
        query: Any = None,
        *,
        image_id: str | None = None,
        k: int = 10,
        search_k: int | None = None,
        rerank: int | None = None,
    ) -> Hits | list[Hits]:
        """Find the k nearest pictures.

        Parameters
        ----------
        query
            A path or uri, a picture file's bytes, a PIL image, a uint8 array (height, width, 3), a
            vector (any real dtype, (d,)), or a list or tuple of these.
        image_id
            Search with the stored vector of this picture instead; it finds itself first.
        k
            How many hits; fewer only where the index has fewer rows.
        search_k
            How many entries of the trees' leaves Annoy gathers over all shards (default: `rerank`
            of each tree). More finds more of the true neighbours, and takes longer; rows times
            trees is everything.
        rerank
            How many of the nearest reduced vectors, over all shards, are measured exactly
            (default: 100, or 2 k where that is more).

        Returns
        -------
        Hits, or a list of them for a list of queries
            Best first, ties by id.

        Raises
        ------
        UsageError
            For anything that cannot be searched with, in one sentence.
        StorageError, PictureError
            When a picture cannot be fetched or decoded.
        """
        depth = self._depth(k, rerank, search_k)
        if (query is None) == (image_id is None):
            raise UsageError("search takes either a query or an image_id, exactly one of them")
        if image_id is not None:
            return self._search_id(image_id, depth)
        if isinstance(query, list | tuple):
            return self._search_each(query, depth)
        return self._search_each([query], depth)[0]

    def search_bytes(self, data: bytes, *, k: int = 10) -> Hits:
        """Search with a picture file's bytes; safe for what a visitor sends."""
        if not isinstance(data, bytes):
            raise UsageError(f"search_bytes takes bytes; found {type(data).__name__}")
        return self._search_each([data], self._depth(k))[0]

    def search_id(self, image_id: str, *, k: int = 10) -> Hits:
        """Search with the stored vector of a picture of the index; it finds itself first."""
        return self._search_id(image_id, self._depth(k))

    def search_vector(self, vector: Vector, *, k: int = 10) -> Hits:
        """Search with a vector, any real dtype, (d,)."""
        depth = self._depth(k)
        return self._hits(self._checked(np.asarray(vector)), depth)

    def search_batch(
        self,
        vectors: Vector,
        k: int = 10,
        *,
        search_k: int | None = None,
        rerank: int | None = None,
    ) -> tuple[npt.NDArray[np.object_], FloatArray]:
        """Search with many vectors.

        Parameters
        ----------
        vectors
            Any real dtype, (n, d).
        k, search_k, rerank
            As for `search`.

        Returns
        -------
        ids : object (str), (n, m)
        distances : float64, (n, m)
            Best first; m is the smaller of k and the number of rows in the index, so that every
            place holds a true hit.
        """
        depth = self._depth(k, rerank, search_k)
        queries = np.asarray(vectors)
        if queries.ndim != 2:
            raise UsageError(f"search_batch takes an array (n, d); found shape {queries.shape}")
        checked = [self._checked(query) for query in queries]
        found = self._fan_out.nearest_each(checked, depth)
        width = min(depth.k, len(self))
        ids = np.empty((len(found), width), dtype=object)
        measured = np.empty((len(found), width))
        for row, neighbours in enumerate(found):
            ids[row] = [neighbour.image_id for neighbour in neighbours]
            measured[row] = [neighbour.distance for neighbour in neighbours]
        return ids, measured

    def _depth(self, k: int, rerank: int | None = None, search_k: int | None = None) -> Depth:
        return depth_of(self.manifest, k, rerank=rerank, search_k=search_k)

    def _checked(self, vector: Vector) -> npt.NDArray[np.float32]:
        if vector.ndim != 1 or vector.dtype.kind not in "fiu":
            raise UsageError(
                "a query vector must be a one-dimensional array of real numbers; "
                f"found {vector.dtype} of shape {vector.shape}"
            )
        if len(vector) != self.dimension:
            raise UsageError(
                f"a query vector must have {self.dimension} numbers, as those of {self.uri}; "
                f"found {len(vector)}"
            )
        with np.errstate(over="ignore"):
            query = vector.astype(np.float32)
        if not np.isfinite(query).all():
            raise UsageError("a query vector must be finite as float32; found NaN or infinity")
        if self.metric == "angular" and not query.any():
            raise UsageError("a query vector must not be zero under angular: it has no direction")
        return query

    def _search_id(self, image_id: str, depth: Depth) -> Hits:
        if not isinstance(image_id, str):
            raise UsageError(f"an image_id must be a string; found {image_id!r}")
        vector = self._fan_out.stored(image_id)
        if vector is None:
            raise UsageError(
                f"there is no picture {image_id!r} in {self.uri}, snapshot {self.snapshot_id}; an "
                "image_id must be written exactly as the feature table has it"
            )
        return self._hits(vector, depth)

    def _search_each(self, queries: Sequence[Any], depth: Depth) -> list[Hits]:
        vectors: list[npt.NDArray[np.float32] | None] = []
        pictures: list[Image.Image] = []
        for query in queries:
            is_vector = isinstance(query, np.ndarray) and query.ndim == 1
            vectors.append(self._checked(query) if is_vector else None)
            if not is_vector:
                pictures.append(as_picture(query, self._model.draft_side()))
        made = iter(self._model.vectors(pictures)) if pictures else iter(())
        shown = iter(pictures)
        return [
            self._hits(self._checked(next(made)), depth, small_copy(next(shown)))
            if vector is None
            else self._hits(vector, depth)
            for vector in vectors
        ]

    def _hits(
        self, query: npt.NDArray[np.float32], depth: Depth, picture: Image.Image | None = None
    ) -> Hits:
        found = self._fan_out.nearest(query, depth)
        return Hits(
            ids=[neighbour.image_id for neighbour in found],
            distances=np.array([neighbour.distance for neighbour in found], dtype=np.float64),
            snapshot_id=self.snapshot_id,
            places=[(neighbour.shard.metadata, neighbour.row) for neighbour in found],
            query=picture,
        )
