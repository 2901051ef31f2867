"""The tree file of a shard: built and searched by Annoy, or scanned where that costs less.

Annoy's trees separate rows badly when they spread evenly in many directions: among 20,000 rows
drawn with the spectrum of real features, 25,600 entries of the leaves miss one neighbour in thirty.
The rows are stored in the same file, one after the other, and a scan of all of them takes less time
and misses none.
"""

from __future__ import annotations

from pathlib import Path

import numkong
import numpy as np
import numpy.typing as npt
from annoy import AnnoyIndex

from pool3.errors import InvalidIndex, Pool3Error
from pool3.index.reduction.pca import Reduction
from pool3.index.reduction.tree_space import tree_rows
from pool3.vectors.distances import FloatArray

Rows = npt.NDArray[np.int64]

# Annoy takes it as a C int.
_MAX_SEARCH_K = 2**31 - 1

# Fields of four bytes that Annoy's "euclidean" writes before the numbers of a row: the number of
# rows below, the offset of a plane, two children.
_HEAD = 4

# Rows that a scan measures in the time that Annoy takes for one entry of a leaf: 42 ns a row of 128
# numbers, 110 to 140 ns an entry.
_ROWS_AN_ENTRY = 3

# Rows that are copied into a tree at a time.
_BLOCK_ROWS = 1024


class Tree:
    """The trees of a shard over its rows in the reduced space. Threads may share it.

    Parameters
    ----------
    path
        The file. Its SHA-256 must have been checked, since Annoy does not check what it loads.
    name
        Its name in errors.
    dimension
        Length of a row of the tree.
    rows
        How many rows it must have.

    Raises
    ------
    InvalidIndex
        When it is not an Annoy file, or has another number of rows.
    """

    def __init__(self, path: Path, name: str, *, dimension: int, rows: int) -> None:
        self._annoy = AnnoyIndex(dimension, "euclidean")
        try:
            self._annoy.load(str(path))
        except OSError as error:
            raise InvalidIndex(f"{name} is not an Annoy file: {error}") from error
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
            As `pool3.index.reduction.tree_space.tree_query` makes it.
        count
            How many rows are returned at most.
        entries
            How many entries of the leaves are gathered. Where a scan of all rows takes no longer,
            the rows are scanned instead.

        Returns
        -------
        rows : int64, (m,)
        distances : float64, (m,)
        """
        if entries * _ROWS_AN_ENTRY >= len(self._rows):
            return self._scan(query, count)
        rows, distances = self._annoy.get_nns_by_vector(
            query, count, search_k=min(entries, self.entries), include_distances=True
        )
        return np.array(rows, dtype=np.int64), np.array(distances, dtype=np.float64)

    def _scan(self, query: list[float], count: int) -> tuple[Rows, FloatArray]:
        """Measure all rows."""
        queries = np.array([query], dtype=np.float32)
        squares = np.asarray(numkong.sqeuclidean(queries, self._rows), dtype=np.float64)
        distances = np.sqrt(squares).ravel()
        rows = np.arange(len(distances))
        if count < len(distances):
            # `not farther` rather than `at most as far`: a distance that overflowed is NaN, and its
            # row may be among the nearest.
            limit = np.partition(distances, count - 1)[count - 1]
            rows = np.flatnonzero(~(distances > limit))
        rows = rows[np.argsort(distances[rows], kind="stable")[:count]]
        return rows, distances[rows]


def _rows_of(path: Path, dimension: int, rows: int) -> npt.NDArray[np.float32]:
    """Map the rows of an Annoy file, float32 (rows, dimension), which it begins with."""
    length = _HEAD + dimension
    whole = np.memmap(path, dtype=np.float32, mode="r", shape=(rows, length))
    return np.asarray(whole[:, _HEAD:])


def build_tree(
    path: Path,
    reduced: npt.NDArray[np.float32],
    reduction: Reduction,
    *,
    max_norm: float,
    n_trees: int,
    seed: int,
) -> None:
    """Build the tree file of a shard.

    Parameters
    ----------
    path
        Where it is written.
    reduced
        float32, (n, r): the reduced rows of the shard, such as a memory-mapped file.
    reduction
        The one that reduced them.
    max_norm
        M, the length of the longest reduced row.
    n_trees
        How many trees.
    seed
        Of Annoy's random splits.
    """
    tree = AnnoyIndex(reduction.tree_dimension, "euclidean")
    tree.set_seed(seed)
    tree.on_disk_build(str(path))
    for start in range(0, len(reduced), _BLOCK_ROWS):
        block = reduced[start : start + _BLOCK_ROWS]
        rows = tree_rows(block, metric=reduction.metric, max_norm=max_norm)
        for item, row in enumerate(rows.tolist(), start):
            tree.add_item(item, row)
    # One thread: each thread draws its own random splits, so several would not be reproducible.
    if not tree.build(n_trees, n_jobs=1):
        raise Pool3Error(f"Annoy could not build {n_trees} trees of {len(reduced)} rows in {path}")
    tree.unload()
