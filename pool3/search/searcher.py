"""What every search does: check what is asked, look, and gather what was found.

Deliberately not here: opening an index, and what each way of searching takes (`index`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pool3 import storage
from pool3.errors import UsageError
from pool3.images.open import as_picture, small_copy
from pool3.index.format.manifest import Manifest
from pool3.index.recall.effort import DEFAULT_RECALL, Effort, choose_effort
from pool3.search.fan_out import FanOut
from pool3.search.hits import HitColumns, Hits
from pool3.search.pictures import PictureModel
from pool3.search.request import SearchRequest, checked_queries, checked_query
from pool3.vectors.distances import FloatArray


class Searcher:
    """Searches an open index. Threads may share it.

    Parameters
    ----------
    uri
        Canonical uri of the index's root.
    manifest
        The snapshot's.
    fan_out
        Its shards.
    """

    def __init__(self, uri: str, manifest: Manifest, fan_out: FanOut) -> None:
        self._uri = uri
        self._manifest = manifest
        self._fan_out = fan_out
        self._model = PictureModel(uri, manifest)
        self._told: set[tuple[int, float]] = set()

    def asked(
        self,
        k: int,
        *,
        recall: float | None = None,
        search_k: int | None = None,
        rerank: int | None = None,
        where: str | None = None,
        distinct: str | None = None,
        exclude_self: bool = False,
        columns: Sequence[str] | None = None,
        vectors: bool = False,
        uri_map: Mapping[str, str] | None = None,
    ) -> SearchRequest:
        """Check what is asked of a search, as `pool3.search.index.Index.search` describes it."""
        selections = self._fan_out.selections
        return SearchRequest(
            effort=self._effort(k, recall, rerank, search_k),
            selection=selections.of(where, distinct),
            shown=HitColumns(declared=selections.declared, columns=columns, uri_map=uri_map),
            exclude_self=exclude_self,
            vectors=vectors,
        )

    def by_id(self, image_id: str, asked: SearchRequest) -> Hits:
        """Search with the stored vector of a picture."""
        if not isinstance(image_id, str):
            raise UsageError(f"an image_id must be a string; found {image_id!r}")
        place = self._fan_out.find(image_id)
        if place is None:
            raise UsageError(
                f"there is no picture {image_id!r} in {self._uri}, snapshot "
                f"{self._manifest.snapshot_id}; an image_id must be written exactly as the feature "
                "table has it"
            )
        own = [place] if asked.exclude_self else []
        return self._hits(self._fan_out.stored(place), asked, own=own)

    def by_each(self, queries: Sequence[Any], asked: SearchRequest) -> list[Hits]:
        """Search with pictures and vectors."""
        own = [self._own(query) if asked.exclude_self else [] for query in queries]
        vectors: list[npt.NDArray[np.float32] | None] = []
        pictures: list[Image.Image] = []
        for query in queries:
            is_vector = isinstance(query, np.ndarray) and query.ndim == 1
            checked = checked_query(query, self._manifest, self._uri) if is_vector else None
            vectors.append(checked)
            if not is_vector:
                pictures.append(as_picture(query, self._model.draft_side()))
        made = iter(self._model.vectors(pictures)) if pictures else iter(())
        shown = iter(pictures)
        return [
            self._hits(
                checked_query(next(made), self._manifest, self._uri),
                asked,
                own=places,
                picture=small_copy(next(shown)),
            )
            if vector is None
            else self._hits(vector, asked, own=places)
            for vector, places in zip(vectors, own, strict=True)
        ]

    def by_vector(self, vector: npt.NDArray[Any], asked: SearchRequest) -> Hits:
        """Search with a vector."""
        return self._hits(checked_query(vector, self._manifest, self._uri), asked)

    def by_batch(
        self, vectors: npt.NDArray[Any], asked: SearchRequest
    ) -> tuple[npt.NDArray[np.object_], FloatArray]:
        """Search with many vectors; returns ids and distances, as many of each as there are."""
        if vectors.ndim != 2:
            raise UsageError(f"search_batch takes an array (n, d); found shape {vectors.shape}")
        queries = checked_queries(vectors, self._manifest, self._uri)
        found = self._fan_out.nearest_each(queries, asked.effort, asked.selection)
        width = min(asked.effort.k, asked.selection.hits)
        ids = np.empty((len(found), width), dtype=object)
        measured = np.empty((len(found), width))
        for row, neighbours in enumerate(found):
            ids[row] = [neighbour.image_id for neighbour in neighbours]
            measured[row] = [neighbour.distance for neighbour in neighbours]
        return ids, measured

    def _effort(
        self,
        k: int,
        recall: float | None = None,
        rerank: int | None = None,
        search_k: int | None = None,
    ) -> Effort:
        effort = choose_effort(self._manifest, k, recall=recall, rerank=rerank, search_k=search_k)
        if rerank is None and search_k is None:
            self._tell(effort, recall)
        return effort

    def _tell(self, effort: Effort, recall: float | None) -> None:
        """Warn, once, that the recall that is wanted may not be reached."""
        wanted = recall or DEFAULT_RECALL
        if (effort.recall or 0.0) >= wanted or (effort.k, wanted) in self._told:
            return
        curve = self._manifest.recall
        if curve is None:
            if recall is None:
                return
            told = f"the recall of {self._uri} was never measured, so that {wanted} may be missed"
        elif effort.recall is None:
            told = f"the recall of {self._uri} was not measured for {effort.k} hits"
        else:
            told = (
                f"no measured effort surely finds {wanted} of the {effort.k} nearest in "
                f"{self._uri}; the best, which finds {effort.recall:.4g}, is taken"
            )
        self._told.add((effort.k, wanted))
        warnings.warn(told, stacklevel=5)

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
        asked: SearchRequest,
        *,
        own: Sequence[tuple[int, int]] = (),
        picture: Image.Image | None = None,
    ) -> Hits:
        selection = asked.selection.without(own) if own else asked.selection
        found = self._fan_out.nearest(query, asked.effort, selection)
        return Hits(
            ids=[neighbour.image_id for neighbour in found],
            distances=np.array([neighbour.distance for neighbour in found], dtype=np.float64),
            snapshot_id=self._manifest.snapshot_id,
            places=[(neighbour.shard.metadata, neighbour.row) for neighbour in found],
            query=picture,
            recall=self._fan_out.recall(asked.effort, selection),
            vectors=self._fan_out.vectors(found) if asked.vectors else None,
            shown=asked.shown,
        )
