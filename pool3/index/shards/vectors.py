"""The re-rank vectors of a shard: mapped from a local file, or fetched by ranges."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pool3 import storage
from pool3.errors import CacheFull, InvalidIndex
from pool3.index.format.entries import FileEntry
from pool3.index.format.npy import read_array
from pool3.index.shards.ranged_vectors import RangedVectors
from pool3.index.snapshots.files import IndexFiles

log = logging.getLogger(__name__)

# Threads that fetch ranges; they mostly wait for a server.
_FETCH_THREADS = 16


class StoredVectors:
    """One shard's vectors, opened at their first use. Threads may share it.

    Parameters
    ----------
    files
        Opens the file, and knows whether the cache has room for vectors.
    file
        A NumPy file.
    dtype, shape
        Those of the array, as the manifest states them.
    """

    def __init__(
        self, files: IndexFiles, file: FileEntry, *, dtype: str, shape: tuple[int, int]
    ) -> None:
        self._files = files
        self._file = file
        self._stated = {"dtype": dtype, "shape": shape}
        self._pinned: storage.PinnedFile | None = None
        self._opened: npt.NDArray[Any] | RangedVectors | None = None

    def open(self) -> npt.NDArray[Any] | RangedVectors:
        """Map the file, or prepare to fetch its rows by ranges where the cache has no room.

        Raises
        ------
        InvalidIndex, StorageError
            When the file is missing or damaged, or does not hold what the manifest states.
        """
        if self._opened is None:
            self._opened = self._fetched() if self._files.ranged else self._mapped_if_room()
        return self._opened

    def all(self) -> npt.NDArray[Any]:
        """Return all rows, (rows, d); a file that is read by ranges is downloaded as a whole."""
        opened = self.open()
        if isinstance(opened, RangedVectors):
            opened = self._opened = self._mapped()
        return opened

    def rows(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return rows by number, (m,), in that order: (m, d)."""
        opened = self.open()
        if isinstance(opened, RangedVectors):
            return opened.rows(numbers)
        return np.asarray(opened[numbers])

    def _mapped_if_room(self) -> npt.NDArray[Any] | RangedVectors:
        try:
            return self._mapped()
        except CacheFull as error:
            log.info("vectors are read by ranges: %s", error)
            return self._fetched()

    def _mapped(self) -> npt.NDArray[Any]:
        pinned = self._files.pin(self._file)
        vectors = read_array(pinned.path, self._name, mmap_mode="r")
        self._require(dtype=vectors.dtype.name, shape=vectors.shape)
        self._pinned = pinned
        return vectors

    def _fetched(self) -> RangedVectors:
        vectors = RangedVectors(self._files, self._file)
        self._require(dtype=vectors.dtype.name, shape=vectors.shape)
        return vectors

    @property
    def _name(self) -> str:
        return self._files.uri_of(self._file)

    def _require(self, **actual: object) -> None:
        for name, stated in self._stated.items():
            if actual[name] != stated:
                raise InvalidIndex(
                    f"{self._name} must have {name} {stated}, as the manifest states; "
                    f"found {actual[name]}"
                )


def gather_vectors(
    shards: Sequence[StoredVectors],
    owners: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
) -> npt.NDArray[Any]:
    """Return the vectors of rows of several shards; those in a bucket are fetched in parallel.

    Parameters
    ----------
    shards
        At least one.
    owners
        int64, (m,): for each row the position of its shard in `shards`.
    rows
        int64, (m,).

    Returns
    -------
    float16 or float32, (m, d)
        In the order of `rows`.
    """
    if len(shards) == 1 or not len(rows):
        return shards[0].rows(rows)
    opened = [shard.open() for shard in shards]
    if any(isinstance(vectors, RangedVectors) for vectors in opened):
        return _fetched_together(shards, owners, rows)
    # A few rows from each of many shards: copying row by row is faster than indexing by shard.
    mapped = cast("list[npt.NDArray[Any]]", opened)
    vectors = np.empty((len(rows), mapped[0].shape[1]), dtype=mapped[0].dtype)
    for at, (owner, row) in enumerate(zip(owners.tolist(), rows.tolist(), strict=True)):
        vectors[at] = mapped[owner][row]
    return vectors


def _fetched_together(
    shards: Sequence[StoredVectors],
    owners: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
) -> npt.NDArray[Any]:
    order = np.argsort(owners, kind="stable")
    numbers, starts = np.unique(owners[order], return_index=True)
    rows_by_shard = np.split(rows[order], starts[1:])
    fetched = _fetchers().map(
        lambda number, rows_of_shard: shards[number].rows(rows_of_shard),
        numbers.tolist(),
        rows_by_shard,
    )
    in_shard_order = np.concatenate(list(fetched))
    vectors = np.empty_like(in_shard_order)
    vectors[order] = in_shard_order
    return vectors


@functools.cache
def _fetchers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_FETCH_THREADS, thread_name_prefix="pool3-fetch")
