"""The re-rank vectors of a shard: mapped from a local file, or fetched row by row."""

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

# Threads that mostly wait for a server.
_FETCHERS = 16


class StoredVectors:
    """One shard's vectors; nothing is opened before it is asked for. Threads may share it.

    Parameters
    ----------
    files
        Finds the file, and says whether the cache has room for vectors.
    file
        A NumPy file.
    dtype, shape
        What the manifest states of it.
    """

    def __init__(
        self, files: IndexFiles, file: FileEntry, *, dtype: str, shape: tuple[int, int]
    ) -> None:
        self._files = files
        self._file = file
        self._stated = {"dtype": dtype, "shape": shape}
        self._held: storage.PinnedFile | None = None
        self._opened: npt.NDArray[Any] | RangedVectors | None = None

    def open(self) -> npt.NDArray[Any] | RangedVectors:
        """Map the file, or be ready to fetch rows of it where the cache has no room.

        Raises
        ------
        InvalidIndex, StorageError
            When the file is missing or damaged, or does not hold what the manifest states.
        """
        if self._opened is None:
            self._opened = self._fetched() if self._files.ranged else self._mapped_if_room()
        return self._opened

    def all(self) -> npt.NDArray[Any]:
        """Return all rows, (rows, d); they are downloaded even where rows were to be fetched."""
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
        held = self._files.pin(self._file)
        vectors = read_array(held.path, self._name, mmap_mode="r")
        self._expect(dtype=vectors.dtype.name, shape=vectors.shape)
        self._held = held
        return vectors

    def _fetched(self) -> RangedVectors:
        vectors = RangedVectors(self._files, self._file)
        self._expect(dtype=vectors.dtype.name, shape=vectors.shape)
        return vectors

    @property
    def _name(self) -> str:
        return self._files.uri_of(self._file)

    def _expect(self, **found: object) -> None:
        for what, stated in self._stated.items():
            if found[what] != stated:
                raise InvalidIndex(
                    f"{self._name} must have {what} {stated}, as the manifest states; "
                    f"found {found[what]}"
                )


def gathered(
    shards: Sequence[StoredVectors],
    owners: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
) -> npt.NDArray[Any]:
    """Return rows of several shards; those in a bucket are fetched at the same time.

    Parameters
    ----------
    shards
        At least one.
    owners
        int64, (m,): of each row the position of its shard in `shards`.
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
    if any(isinstance(one, RangedVectors) for one in opened):
        return _fetched_together(shards, owners, rows)
    # A few rows from each of many shards: one copy a row takes less than one array a shard.
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
    parts = np.split(rows[order], starts[1:])
    wanted = [(shards[number], part) for number, part in zip(numbers.tolist(), parts, strict=True)]
    found = np.concatenate(list(_fetchers().map(lambda pair: pair[0].rows(pair[1]), wanted)))
    vectors = np.empty_like(found)
    vectors[order] = found
    return vectors


@functools.cache
def _fetchers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_FETCHERS, thread_name_prefix="pool3-fetch")
