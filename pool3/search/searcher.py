"""Searches an open snapshot by id, by pictures and by vectors, and makes hits of the neighbours.

Deliberately not here: opening an index, and the options of a search (`index`, `request`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pool3 import storage
from pool3.errors import UsageError
from pool3.images.open import as_picture, small_copy
from pool3.index.snapshots.snapshot import Snapshot
from pool3.search.fan_out import FanOut
from pool3.search.hits import Hits
from pool3.search.pictures import PictureModel
from pool3.search.request import SearchRequest, checked_queries, checked_query
from pool3.vectors.distances import FloatArray


class Searcher:
    """Searches an open index. Threads may share it.

    Parameters
    ----------
    snapshot
        The open snapshot.
    fan_out
        Over its shards.
    """

    def __init__(self, snapshot: Snapshot, fan_out: FanOut) -> None:
        self._snapshot = snapshot
        self._fan_out = fan_out
        self._model = PictureModel(snapshot)

    def by_id(self, image_id: str, request: SearchRequest) -> Hits:
        """Search with the stored vector of a picture."""
        if not isinstance(image_id, str):
            raise UsageError(f"an image_id must be a string; found {image_id!r}")
        place = self._fan_out.shards.find(image_id)
        if place is None:
            raise UsageError(
                f"there is no picture {image_id!r} in {self._snapshot.uri}, snapshot "
                f"{self._snapshot.manifest.snapshot_id}; write the image_id exactly as in the "
                "feature table"
            )
        own = [place] if request.exclude_self else []
        return self._hits(self._fan_out.stored_vector(place), request, own=own)

    def by_each(self, queries: Sequence[Any], request: SearchRequest) -> list[Hits]:
        """Search with pictures and vectors."""
        own = [self._own(query) if request.exclude_self else [] for query in queries]
        vectors: list[npt.NDArray[np.float32] | None] = []
        pictures: list[Image.Image] = []
        for query in queries:
            is_vector = isinstance(query, np.ndarray) and query.ndim == 1
            checked = checked_query(query, self._snapshot) if is_vector else None
            vectors.append(checked)
            if not is_vector:
                model = self._model
                pictures.append(as_picture(query, model.draft_side(), model.colour()))
        features = iter(self._model.vectors(pictures)) if pictures else iter(())
        remaining = iter(pictures)
        return [
            self._hits(
                checked_query(next(features), self._snapshot),
                request,
                own=places,
                picture=small_copy(next(remaining)),
            )
            if vector is None
            else self._hits(vector, request, own=places)
            for vector, places in zip(vectors, own, strict=True)
        ]

    def by_vector(self, vector: npt.NDArray[Any], request: SearchRequest) -> Hits:
        """Search with a vector."""
        return self._hits(checked_query(vector, self._snapshot), request)

    def by_batch(
        self, vectors: npt.NDArray[Any], request: SearchRequest
    ) -> tuple[npt.NDArray[np.object_], FloatArray]:
        """Search with many vectors; returns ids and distances, (n, hits)."""
        if vectors.ndim != 2:
            raise UsageError(f"search_batch takes an array (n, d); found shape {vectors.shape}")
        queries = checked_queries(vectors, self._snapshot)
        answers = self._fan_out.nearest_each(queries, request.effort, request.selection)
        width = min(request.effort.k, request.selection.hits)
        ids = np.empty((len(answers), width), dtype=object)
        measured = np.empty((len(answers), width))
        for row, neighbours in enumerate(answers):
            ids[row] = [neighbour.image_id for neighbour in neighbours]
            measured[row] = [neighbour.distance for neighbour in neighbours]
        return ids, measured

    def _own(self, query: Any) -> list[tuple[int, int]]:
        """Return shard and row of the picture of a query, if the index has it."""
        if not isinstance(query, str | Path):
            raise UsageError(
                "exclude_self needs an image_id, or a query that is a path or uri, to identify "
                f"the picture; found {type(query).__name__}"
            )
        uri = storage.canonical_uri(query)
        place = self._fan_out.shards.find(uri)
        return self._fan_out.selections.rows_with_uri(uri) if place is None else [place]

    def _hits(
        self,
        query: npt.NDArray[np.float32],
        request: SearchRequest,
        *,
        own: Sequence[tuple[int, int]] = (),
        picture: Image.Image | None = None,
    ) -> Hits:
        selection = request.selection.without(own) if own else request.selection
        neighbours = self._fan_out.nearest(query, request.effort, selection)
        return Hits(
            ids=[neighbour.image_id for neighbour in neighbours],
            distances=np.array([neighbour.distance for neighbour in neighbours], dtype=np.float64),
            snapshot_id=self._snapshot.manifest.snapshot_id,
            places=[(neighbour.shard.metadata, neighbour.row) for neighbour in neighbours],
            query=picture,
            recall=self._fan_out.recall(request.effort, selection),
            vectors=self._fan_out.vectors(neighbours) if request.vectors else None,
            hit_columns=request.hit_columns,
        )
