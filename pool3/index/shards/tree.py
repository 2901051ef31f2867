"""The tree file of a shard: searched by Annoy, or all its rows measured where that costs less.

Annoy's trees cannot tell apart what lies evenly in many directions: among 20,000 rows drawn with
the spectrum of real features, 25,600 entries of the leaves lack one neighbour in thirty. The rows
stand in the same file, one after the other, and measuring them all takes less time and misses none.
"""

from __future__ import annotations

from pathlib import Path

import numkong
import numpy as np
import numpy.typing as npt
from annoy import AnnoyIndex

from pool3.errors import InvalidIndex
from pool3.vectors.distances import FloatArray

Rows = npt.NDArray[np.int64]

# Annoy takes it as a C int.
_MAX_SEARCH_K = 2**31 - 1

# Before the numbers of a row, as Annoy's "euclidean" writes it: how many rows are below, the offset
# of a plane, two children; each takes four bytes.
_HEAD = 4

# So many rows are measured in the time that Annoy takes for one entry of a leaf: 42 ns a row of 128
# numbers, 110 to 140 ns an entry.
_ROWS_AN_ENTRY = 3


class Tree:
    """The trees of a shard over its rows in the reduced space. Threads may share it.

    Parameters
    ----------
    path
        The file; it must have been checked, since Annoy trusts it.
    name
        What an error calls it.
    dimension
        Length of a row in it.
    rows
        How many it must hold.

    Raises
    ------
    InvalidIndex
        When it is no Annoy file, or holds another number of rows.
    """

    def __init__(self, path: Path, name: str, *, dimension: int, rows: int) -> None:
        self._annoy = AnnoyIndex(dimension, "euclidean")
        try:
            self._annoy.load(str(path))
        except OSError as error:
            raise InvalidIndex(f"{name} is no Annoy file: {error}") from error
        if self._annoy.get_n_items() != rows:
            raise InvalidIndex(
                f"{name} must have items {rows}, as the manifest states; "
                f"found {self._annoy.get_n_items()}"
            )
        self.entries = min(self._annoy.get_n_trees() * rows, _MAX_SEARCH_K)
        try:
            self._rows = _rows_of(path, dimension, rows)
        except ValueError as error:
            raise InvalidIndex(f"{name} is too short for {rows} rows: {error}") from error

    def nearest(self, query: list[float], count: int, entries: int) -> tuple[Rows, FloatArray]:
        """Find rows near a query, nearest first, ties by row.

        Parameters
        ----------
        query
            As `pool3.index.reduction.tree_query` makes it.
        count
            How many at most.
        entries
            How many entries of the leaves are looked at; where measuring all rows takes no longer,
            that is done instead.

        Returns
        -------
        rows : int64, (m,)
        distances : float64, (m,)
        """
        if entries * _ROWS_AN_ENTRY >= len(self._rows):
            return self._scanned(query, count)
        rows, found = self._annoy.get_nns_by_vector(
            query, count, search_k=min(entries, self.entries), include_distances=True
        )
        return np.array(rows, dtype=np.int64), np.array(found, dtype=np.float64)

    def _scanned(self, query: list[float], count: int) -> tuple[Rows, FloatArray]:
        asked = np.array([query], dtype=np.float32)
        far = np.sqrt(np.asarray(numkong.sqeuclidean(asked, self._rows), dtype=np.float64)).ravel()
        near = np.arange(len(far))
        if count < len(far):
            # Not the other way round: what overflowed, and is NaN, may be near.
            near = np.flatnonzero(~(far > np.partition(far, count - 1)[count - 1]))
        near = near[np.argsort(far[near], kind="stable")[:count]]
        return near, far[near]


def _rows_of(path: Path, dimension: int, rows: int) -> npt.NDArray[np.float32]:
    """Map the rows of an Annoy file, float32 (rows, dimension); they stand before all else."""
    length = _HEAD + dimension
    whole = np.memmap(path, dtype=np.float32, mode="r", shape=(rows, length))
    return np.asarray(whole[:, _HEAD:])
