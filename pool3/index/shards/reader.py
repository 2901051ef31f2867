"""Reads one shard: its files are checked against the manifest and memory-mapped.

Annoy does not check the file that it loads, and a damaged one can crash the process. So each file
is checked by its SHA-256 first.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3 import storage
from pool3.index.format.entries import IDS, METADATA, TOMBSTONES, TREE, VECTORS
from pool3.index.shards.arrow_rows import ArrowRows, IdRows
from pool3.index.shards.tombstones import mask_without, read_tombstones
from pool3.index.shards.tree import Tree
from pool3.index.shards.vectors import StoredVectors
from pool3.index.snapshots.snapshot import StoredShard


class ShardReader:
    """One shard of an open index.

    Parameters
    ----------
    stored
        The shard as it is stored, with at least one row.

    Attributes
    ----------
    stored_vectors
        Opened at their first use, or by ``stored_vectors.open()``. When several shards are opened,
        their vectors come last and get the room that the trees leave in the cache.

    Raises
    ------
    InvalidIndex, StorageError
        When a file is missing or damaged, or does not hold what the manifest states.
    """

    def __init__(self, stored: StoredShard) -> None:
        self._stored = stored
        self._files: dict[str, storage.PinnedFile] = {}
        entry, snapshot = stored.entry, stored.snapshot
        self.entry = entry
        self.max_norm = entry.max_norm
        self.ids = IdRows(self._file(IDS), stored.uri(IDS))
        stored.require(IDS, "rows", entry.rows, len(self.ids))
        self.metadata: ArrowRows | None = None
        if METADATA in entry.files:
            self.metadata = ArrowRows(self._file(METADATA), stored.uri(METADATA))
            stored.require(METADATA, "rows", entry.rows, len(self.metadata))
        self.live = self._read_live()
        self._tree = Tree(
            self._file(TREE),
            stored.uri(TREE),
            dimension=snapshot.reduction.tree_dimension,
            rows=entry.rows,
        )
        self.stored_vectors = StoredVectors(
            snapshot.files,
            entry.files[VECTORS],
            dtype=snapshot.manifest.vectors_dtype,
            shape=(entry.rows, snapshot.manifest.dimension),
        )

    def _file(self, kind: str) -> Path:
        """Return the path of a file that stays on disk as long as this reader is referenced."""
        if kind not in self._files:
            self._files[kind] = self._stored.pin(kind)
        return self._files[kind].path

    @property
    def vectors(self) -> npt.NDArray[Any]:
        """All vectors for re-ranking, (rows, d), mapped from a local file.

        Vectors that are read by ranges are downloaded as a whole; `rows_at` fetches some rows.
        """
        return self.stored_vectors.all()

    def rows_at(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the stored vectors of some rows.

        Parameters
        ----------
        rows
            int64, (m,), in any order.

        Returns
        -------
        float16 or float32, (m, d)
            In the order of `rows`.

        Raises
        ------
        SnapshotExpired, StorageError
            When they cannot be fetched from their bucket.
        """
        return self.stored_vectors.rows(rows)

    def _read_live(self) -> npt.NDArray[np.bool_] | None:
        """Return which rows a search may return, None where it may return all."""
        if TOMBSTONES not in self.entry.files:
            return None
        uri = self._stored.uri(TOMBSTONES)
        deleted = read_tombstones(self._file(TOMBSTONES), uri, self.entry)
        return mask_without(self.entry.rows, deleted)

    def candidates(
        self,
        query: list[float],
        *,
        entries: int,
        most: int,
        at_least: int = 0,
        passing: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the rows nearest to a query in the reduced space, deleted ones left out.

        Parameters
        ----------
        query
            As `pool3.index.reduction.tree_space.tree_query` makes it.
        entries
            How many entries of the trees' leaves are gathered at first; four times as many, and so
            on, until there are `at_least` rows. Where measuring every row takes no longer than
            gathering so many, all rows are measured instead (`pool3.index.shards.tree`).
        most
            How many rows are returned at most.
        at_least
            How many rows are returned at least, where so many pass.
        passing
            bool, (rows,): which rows may be returned, no deleted one among them; the live ones when
            None.

        Returns
        -------
        rows : int64, (m,)
        distances : float64, (m,)
            In the tree's own space, ascending.
        """
        n_rows, mask = self.entry.rows, self.live if passing is None else passing
        n_passing = n_rows if mask is None else int(np.count_nonzero(mask))
        most, at_least = min(most, n_passing), min(at_least, most, n_passing)
        # A few more than would suffice if the passing rows were spread evenly.
        count = most if mask is None else min(n_rows, most * n_rows * 5 // (4 * n_passing or 1) + 8)
        while most:
            rows, distances = self._tree.nearest(query, count, entries)
            n_gathered = len(rows)
            if mask is not None:
                passes = mask[rows]
                rows, distances = rows[passes], distances[passes]
            if len(rows) >= most:
                return rows[:most], distances[:most]
            if n_gathered == count < n_rows:
                count = min(n_rows, 4 * count)
            elif len(rows) < at_least and entries < self._tree.entries:
                entries *= 4
            else:
                return rows, distances
        return np.zeros(0, dtype=np.int64), np.zeros(0)

    def find(self, image_id: str) -> int | None:
        """Return the live row of an image_id, None without one."""
        row = bisect_left(range(len(self.ids)), image_id, key=self.ids.image_id)
        if row == len(self.ids) or self.ids.image_id(row) != image_id:
            return None
        return row if self.live is None or self.live[row] else None
