"""Reading one shard: memory-mapped, and checked against the manifest before Annoy sees it.

Annoy trusts the file that it is given; a damaged one can crash the process. So every file is
checked by SHA-256 first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3 import storage
from pool3.index.format.entries import IDS, METADATA, TOMBSTONES, TREE, VECTORS
from pool3.index.format.npy import read_array
from pool3.index.shards.arrow_rows import ArrowRows, IdRows
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
        Opened when they are first asked for, or by ``stored_vectors.open()``: of several shards
        last, since vectors take what room the trees leave in the cache.

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
        self.live = self._open_live()
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
        """Return the path of a file that stays on disk as long as this reader lives."""
        if kind not in self._files:
            self._files[kind] = self._stored.pin(kind)
        return self._files[kind].path

    @property
    def vectors(self) -> npt.NDArray[Any]:
        """All vectors for re-ranking, (rows, d), mapped from a local file.

        Where they stay in their bucket, this downloads them after all; `rows_at` fetches some.
        """
        return self.stored_vectors.all()

    def rows_at(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return some of the vectors for re-ranking.

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
            Where they are fetched from a bucket, and that fails.
        """
        return self.stored_vectors.rows(rows)

    def _open_live(self) -> npt.NDArray[np.bool_] | None:
        """Return which rows a search may find, None where it may find them all."""
        if TOMBSTONES not in self.entry.files:
            return None
        dead = read_array(self._file(TOMBSTONES), self._stored.uri(TOMBSTONES))
        self._stored.require(TOMBSTONES, "dtype", "uint32", dead.dtype.name)
        self._stored.require(TOMBSTONES, "shape", (self.entry.dead,), dead.shape)
        ascending = bool((np.diff(dead.astype(np.int64)) > 0).all())
        self._stored.require(TOMBSTONES, "ascending rows", True, ascending)
        self._stored.require(TOMBSTONES, "rows in it", True, bool((dead < self.entry.rows).all()))
        live = np.ones(self.entry.rows, dtype=np.bool_)
        live[dead] = False
        return live

    def candidates(
        self,
        query: list[float],
        *,
        entries: int,
        most: int,
        at_least: int = 0,
        passing: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Find rows that are near in the reduced space, dead ones left out.

        Parameters
        ----------
        query
            As `pool3.index.reduction.tree_query` makes it.
        entries
            How many entries of the trees' leaves are gathered at first; four times as many, and
            so on, until `at_least` rows are found. Of so many that measuring every row takes no
            longer, that is done instead (`pool3.index.shards.tree`).
        most
            How many rows are returned at most.
        at_least
            How many rows are returned at least, where so many pass.
        passing
            bool, (rows,): which rows may be returned, no dead one among them; the live ones when
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
        # Some more than would do if those that pass were spread evenly.
        asked = most if mask is None else min(n_rows, most * n_rows * 5 // (4 * n_passing or 1) + 8)
        while most:
            near, distances = self._tree.nearest(query, asked, entries)
            n_found = len(near)
            if mask is not None:
                kept = mask[near]
                near, distances = near[kept], distances[kept]
            if len(near) >= most:
                return near[:most], distances[:most]
            if n_found == asked < n_rows:
                asked = min(n_rows, 4 * asked)
            elif len(near) < at_least and entries < self._tree.entries:
                entries *= 4
            else:
                return near, distances
        return np.zeros(0, dtype=np.int64), np.zeros(0)

    def find(self, image_id: str) -> int | None:
        """Return the live row of an image_id, by bisection over sorted ids; None without one."""
        low, high = 0, len(self.ids)
        while low < high:
            middle = (low + high) // 2
            if self.ids.image_id(middle) < image_id:
                low = middle + 1
            else:
                high = middle
        found = low < len(self.ids) and self.ids.image_id(low) == image_id
        return low if found and (self.live is None or self.live[low]) else None
