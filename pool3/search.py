"""Searching an index: pictures, vectors or ids in, hits out.

Deliberately not here: Spark, and any state that a search would leave behind; an open index never
changes, whatever is published after it.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from pool3 import storage
from pool3.distances import FloatArray
from pool3.errors import InvalidIndex, UsageError
from pool3.hits import Hits, Shown
from pool3.index.depth import DEFAULT_RECALL, Depth, check_count, depth_of
from pool3.index.facts import facts_of
from pool3.index.fan_out import FanOut
from pool3.index.files import IndexFiles, stored_reduction
from pool3.index.manifest import Manifest
from pool3.index.publication import newest_published, newest_snapshot, read_manifest
from pool3.index.recall_plot import plot_recall
from pool3.index.selection import Selection
from pool3.query_pictures import PictureModel, as_picture, small_copy
from pool3.query_vectors import checked_queries, checked_query

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
    return Index(
        root, manifest, cache_max_bytes=cache_max_bytes, pinned=expected_sha256 is not None
    )


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
    pinned
        Whether the manifest had to have a given SHA-256.

    Attributes
    ----------
    uri
        Where the index is.
    manifest
        What the snapshot consists of.
    """

    def __init__(
        self,
        uri: str,
        manifest: Manifest,
        *,
        cache_max_bytes: int | None = None,
        pinned: bool = False,
    ) -> None:
        self.uri = uri
        self.manifest = manifest
        self._cache_max_bytes = cache_max_bytes
        self._pinned = pinned
        self._model = PictureModel(uri, manifest)
        reduction = stored_reduction(IndexFiles(uri, manifest, cache_max_bytes), manifest)
        self._fan_out = FanOut(uri, manifest, reduction, cache_max_bytes)
        self._told: set[tuple[int, float]] = set()

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
        return facts_of(self.uri, self.manifest)

    def plot_recall(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw what is known of the index's recall; see `pool3.index.recall_plot.plot_recall`."""
        if self.manifest.recall is None:
            raise UsageError(
                f"the recall of {self.uri}, snapshot {self.snapshot_id}, was never measured; "
                "build the index again"
            )
        return plot_recall(self.manifest.recall, path)

    def refresh(self, *, expected_sha256: str | None = None) -> Index:
        """Open the newest published snapshot, with the options that this one was opened with.

        Parameters
        ----------
        expected_sha256
            As for `open_index`; an index that was opened with one must be given the next.

        Returns
        -------
        Index
            This one where nothing else was published since.
        """
        if self._pinned and expected_sha256 is None:
            raise UsageError(
                f"{self.uri} was opened with expected_sha256, which only one manifest has; "
                "refresh(expected_sha256=...) takes that of the newest"
            )
        if _published(self.uri) == self.snapshot_id:
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
        recall: float | None = None,
        search_k: int | None = None,
        rerank: int | None = None,
        where: str | None = None,
        distinct: str | None = None,
        exclude_self: bool = False,
        columns: Sequence[str] | None = None,
        vectors: bool = False,
        uri_map: Mapping[str, str] | None = None,
    ) -> Hits: ...

    @overload
    def search(
        self,
        query: list[Any] | tuple[Any, ...],
        *,
        k: int = 10,
        recall: float | None = None,
        search_k: int | None = None,
        rerank: int | None = None,
        where: str | None = None,
        distinct: str | None = None,
        exclude_self: bool = False,
        columns: Sequence[str] | None = None,
        vectors: bool = False,
        uri_map: Mapping[str, str] | None = None,
    ) -> list[Hits]: ...

    def search(
        self,
        query: Any = None,
        *,
        image_id: str | None = None,
        k: int = 10,
        recall: float | None = None,
        search_k: int | None = None,
        rerank: int | None = None,
        where: str | None = None,
        distinct: str | None = None,
        exclude_self: bool = False,
        columns: Sequence[str] | None = None,
        vectors: bool = False,
        uri_map: Mapping[str, str] | None = None,
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
            How many hits; fewer only where there are fewer.
        recall
            Which share of the true neighbours is wanted, 0 to 1 (default: 0.95): the cheapest
            measured effort is taken whose 95 % interval lies above it. A warning tells when none
            does, or nothing was measured for so many hits. Not together with the next two.
        search_k
            How many entries of the trees' leaves Annoy gathers over all shards (default: `rerank`
            of each tree). More finds more of the true neighbours, and takes longer; rows times
            trees is everything.
        rerank
            How many of the nearest reduced vectors, over all shards, are measured exactly
            (default: 100, or 2 k where that is more).
        where
            Only pictures of which this is true, such as ``label = 'tram' AND width > 400``; over
            ``image_id`` and the columns of metadata (`pool3.where_parser` has the language).
        distinct
            A column of which no two hits may have the same value; the nearest of each stays. Null
            is no value.
        exclude_self
            Leave out the picture that is searched with: that of `image_id`, or of the path or uri.
        columns
            The columns of metadata that `Hits.to_pandas` has.
        vectors
            Whether the hits bring their vectors, `Hits.vectors`.
        uri_map
            For pictures that were moved: what the beginnings of their uris are replaced with.

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
        if (query is None) == (image_id is None):
            raise UsageError("search takes either a query or an image_id, exactly one of them")
        asked = _Asked(
            depth=self._depth(k, recall, rerank, search_k),
            selection=self._fan_out.selections.of(where, distinct),
            exclude_self=exclude_self,
            vectors=vectors,
            shown=Shown(
                declared=self._fan_out.selections.declared, columns=columns, uri_map=uri_map
            ),
        )
        if image_id is not None:
            return self._search_id(image_id, asked)
        if isinstance(query, list | tuple):
            return self._search_each(query, asked)
        return self._search_each([query], asked)[0]

    def search_bytes(
        self, data: bytes, *, k: int = 10, where: str | None = None, recall: float | None = None
    ) -> Hits:
        """Search with a picture file's bytes; safe for what a visitor sends."""
        if not isinstance(data, bytes):
            raise UsageError(f"search_bytes takes bytes; found {type(data).__name__}")
        return self._search_each([data], self._asked(self._depth(k, recall), where))[0]

    def search_id(
        self, image_id: str, *, k: int = 10, where: str | None = None, recall: float | None = None
    ) -> Hits:
        """Search with the stored vector of a picture of the index; it finds itself first."""
        return self._search_id(image_id, self._asked(self._depth(k, recall), where))

    def search_vector(
        self, vector: Vector, *, k: int = 10, where: str | None = None, recall: float | None = None
    ) -> Hits:
        """Search with a vector, any real dtype, (d,)."""
        asked = self._asked(self._depth(k, recall), where)
        return self._hits(checked_query(np.asarray(vector), self.manifest, self.uri), asked)

    def search_batch(
        self,
        vectors: Vector,
        k: int = 10,
        *,
        recall: float | None = None,
        search_k: int | None = None,
        rerank: int | None = None,
        where: str | None = None,
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
            Best first; m is the smaller of k and the number of rows that may be found, so that
            every place holds a true hit.
        """
        depth = self._depth(k, recall, rerank, search_k)
        selection = self._fan_out.selections.of(where)
        queries = np.asarray(vectors)
        if queries.ndim != 2:
            raise UsageError(f"search_batch takes an array (n, d); found shape {queries.shape}")
        checked = checked_queries(queries, self.manifest, self.uri)
        found = self._fan_out.nearest_each(checked, depth, selection)
        width = min(depth.k, selection.hits)
        ids = np.empty((len(found), width), dtype=object)
        measured = np.empty((len(found), width))
        for row, neighbours in enumerate(found):
            ids[row] = [neighbour.image_id for neighbour in neighbours]
            measured[row] = [neighbour.distance for neighbour in neighbours]
        return ids, measured

    def _asked(self, depth: Depth, where: str | None) -> _Asked:
        selections = self._fan_out.selections
        return _Asked(
            depth=depth, selection=selections.of(where), shown=Shown(declared=selections.declared)
        )

    def _depth(
        self,
        k: int,
        recall: float | None = None,
        rerank: int | None = None,
        search_k: int | None = None,
    ) -> Depth:
        depth = depth_of(self.manifest, k, recall=recall, rerank=rerank, search_k=search_k)
        if rerank is None and search_k is None:
            self._tell(depth, recall)
        return depth

    def _tell(self, depth: Depth, recall: float | None) -> None:
        """Warn, once, that the recall that is wanted may not be reached."""
        wanted = recall or DEFAULT_RECALL
        if (depth.recall or 0.0) >= wanted or (depth.k, wanted) in self._told:
            return
        curve = self.manifest.recall
        if curve is None:
            if recall is None:
                return
            told = f"the recall of {self.uri} was never measured, so that {wanted} may be missed"
        elif depth.recall is None:
            told = f"the recall of {self.uri} was not measured for {depth.k} hits"
        else:
            told = (
                f"no measured effort surely finds {wanted} of the {depth.k} nearest in {self.uri}; "
                f"the best, which finds {depth.recall:.4g}, is taken"
            )
        self._told.add((depth.k, wanted))
        warnings.warn(told, stacklevel=4)

    def _search_id(self, image_id: str, asked: _Asked) -> Hits:
        if not isinstance(image_id, str):
            raise UsageError(f"an image_id must be a string; found {image_id!r}")
        place = self._fan_out.find(image_id)
        if place is None:
            raise UsageError(
                f"there is no picture {image_id!r} in {self.uri}, snapshot {self.snapshot_id}; an "
                "image_id must be written exactly as the feature table has it"
            )
        own = [place] if asked.exclude_self else []
        return self._hits(self._fan_out.stored(place), asked, own=own)

    def _search_each(self, queries: Sequence[Any], asked: _Asked) -> list[Hits]:
        own = [self._own(query) if asked.exclude_self else [] for query in queries]
        vectors: list[npt.NDArray[np.float32] | None] = []
        pictures: list[Image.Image] = []
        for query in queries:
            is_vector = isinstance(query, np.ndarray) and query.ndim == 1
            checked = checked_query(query, self.manifest, self.uri) if is_vector else None
            vectors.append(checked)
            if not is_vector:
                pictures.append(as_picture(query, self._model.draft_side()))
        made = iter(self._model.vectors(pictures)) if pictures else iter(())
        shown = iter(pictures)
        return [
            self._hits(
                checked_query(next(made), self.manifest, self.uri),
                asked,
                own=places,
                picture=small_copy(next(shown)),
            )
            if vector is None
            else self._hits(vector, asked, own=places)
            for vector, places in zip(vectors, own, strict=True)
        ]

    def _own(self, query: Any) -> list[tuple[int, int]]:
        """Return where the picture stands that is searched with."""
        if not isinstance(query, str | Path):
            raise UsageError(
                "exclude_self needs an image_id, or a query that is a path or uri: what else "
                f"could tell which picture is meant; found {type(query).__name__}"
            )
        uri = storage.canonical_uri(query)
        place = self._fan_out.find(uri)
        return self._fan_out.selections.rows_with_uri(uri) if place is None else [place]

    def _hits(
        self,
        query: npt.NDArray[np.float32],
        asked: _Asked,
        *,
        own: Sequence[tuple[int, int]] = (),
        picture: Image.Image | None = None,
    ) -> Hits:
        selection = asked.selection.without(own) if own else asked.selection
        found = self._fan_out.nearest(query, asked.depth, selection)
        return Hits(
            ids=[neighbour.image_id for neighbour in found],
            distances=np.array([neighbour.distance for neighbour in found], dtype=np.float64),
            snapshot_id=self.snapshot_id,
            places=[(neighbour.shard.metadata, neighbour.row) for neighbour in found],
            query=picture,
            recall=self._fan_out.recall(asked.depth, selection),
            vectors=self._fan_out.vectors(found) if asked.vectors else None,
            shown=asked.shown,
        )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is asked of a search besides the query."""

    depth: Depth
    selection: Selection
    shown: Shown
    exclude_self: bool = False
    vectors: bool = False
