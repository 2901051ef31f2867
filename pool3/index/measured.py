"""Rows with their exact distances, and the choice of the best of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pool3.distances import FloatArray, ranked, top_k

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """Rows with their exact distances.

    Attributes
    ----------
    shards, rows
        int64, (m,): number of the shard, and row there.
    distances
        float64, (m,).
    """

    shards: Rows
    rows: Rows
    distances: FloatArray

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        """Return several as one."""
        if len(parts) == 1:
            return parts[0]
        nothing = np.zeros(0, dtype=np.int64)
        return cls(
            np.concatenate([nothing, *(part.shards for part in parts)]),
            np.concatenate([nothing, *(part.rows for part in parts)]),
            np.concatenate([np.zeros(0), *(part.distances for part in parts)]),
        )

    def best(
        self, k: int, id_of: Callable[[int], str], values: Sequence[Rows] | None
    ) -> list[tuple[str, int]]:
        """Choose the k nearest, ties by id.

        Parameters
        ----------
        k
            How many at most.
        id_of
            Gives the image_id of a position.
        values
            For each shard int64, (rows,): of rows with the same number, -1 aside, only the
            nearest is chosen. None where all may be.

        Returns
        -------
        list of (image_id, position)
            Best first.
        """
        if values is None:
            return top_k(self.distances, k, id_of)
        seen: set[int] = set()
        chosen: list[tuple[str, int]] = []
        for image_id, at in ranked(self.distances, id_of):
            if len(chosen) == k:
                break
            value = int(values[self.shards[at]][self.rows[at]])
            if value < 0 or value not in seen:
                seen.add(value)
                chosen.append((image_id, at))
        return chosen
