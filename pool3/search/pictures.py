"""Turns pictures into query vectors, by the index's own copy of its model.

Deliberately not here: the search. An index of foreign vectors has no model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from pool3 import storage
from pool3.engines import cached_engine
from pool3.errors import InvalidIndex, UsageError
from pool3.images.decode import draft_side, resized
from pool3.images.profiles import SRGB
from pool3.index.snapshots.snapshot import Snapshot
from pool3.models.directory import ModelDirectory, read_model

# Pictures in a batch of the model; larger batches are hardly faster and take more memory.
_BATCH = 32


class PictureModel:
    """The model that made an index's vectors, read from its copy at the first use.

    Parameters
    ----------
    snapshot
        The open snapshot, whose manifest names the copy.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._index_uri = snapshot.uri
        self._manifest = snapshot.manifest
        self._directory: ModelDirectory | None = None
        self._lock = threading.Lock()

    def _model(self) -> ModelDirectory:
        if self._manifest.model is None:
            raise UsageError(
                f"{self._index_uri} was built from vectors without their model, so it cannot be "
                "searched by picture; search it by vector or by image_id"
            )
        with self._lock:
            if self._directory is None:
                uri = storage.join(self._index_uri, self._manifest.model)
                directory = read_model(uri)
                if directory.model_id != self._manifest.model_id:
                    raise InvalidIndex(
                        f"{uri} must hold the model {self._manifest.model_id}; "
                        f"found {directory.model_id}"
                    )
                self._directory = directory
        return self._directory

    def draft_side(self) -> int | None:
        """Return the side that JPEG queries are drafted to, as for the pictures of the table."""
        if self._manifest.model is None:
            return None
        model = self._model()
        return draft_side(model.input_size, model.resize)

    def colour(self) -> str:
        """Return how colour profiles of queries are treated: as those of the table were."""
        return SRGB if self._manifest.model is None else self._model().colour

    def vectors(self, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """Run the model over pictures.

        Parameters
        ----------
        pictures
            n pictures, RGB, upright.

        Returns
        -------
        float32, (n, d)

        Raises
        ------
        UsageError
            When the index has no model.
        EngineMissing
            When the library that runs it is not installed.
        """
        model = self._model()
        # In float32 a query differs from its own row only by the rounding of the row. 350 photos,
        # extracted in bfloat16 with a model whose features it changes by 0.22, had themselves as
        # nearest hits, at no more than 0.08 of the second distance under angular and 0.28 under
        # euclidean; in proportion that is 0.06 at the limit of 0.05 of automatic precision.
        engine = cached_engine(
            model.graph_sha256,
            lambda: model.graph,
            precision="float32",
            threads=len(os.sched_getaffinity(0)),
        )
        inputs = [resized(picture, model.input_size, model.resize) for picture in pictures]
        features = [
            engine(np.stack(inputs[start : start + _BATCH]))
            for start in range(0, len(inputs), _BATCH)
        ]
        return np.concatenate(features)
