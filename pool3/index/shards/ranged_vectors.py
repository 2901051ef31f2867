"""Re-rank vectors that stay in their bucket: each search fetches the rows that it measures."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import InvalidIndex
from pool3.index.format.entries import FileEntry
from pool3.index.format.npy import PARSING
from pool3.index.snapshots.files import IndexFiles

# What NumPy writes before the numbers of a matrix: 128 bytes.
_MOST_HEADER_BYTES = 1024


class RangedVectors:
    """The rows of a remote NumPy file, fetched by ranges.

    What is fetched is checked by length only: a SHA-256 tells nothing about a part of a file.

    Parameters
    ----------
    files
        Reads the ranges.
    file
        The NumPy file.

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple of int

    Raises
    ------
    InvalidIndex
        When the file is no NumPy file, or not of the length that its header and the manifest state.
    """

    def __init__(self, files: IndexFiles, file: FileEntry) -> None:
        self._files = files
        self._file = file
        header = io.BytesIO(files.read_ranges(file, [0], min(_MOST_HEADER_BYTES, file.bytes)))
        uri = files.uri_of(file)
        try:
            if np.lib.format.read_magic(header) != (1, 0):
                raise ValueError("its format version is not 1.0")
            with PARSING:
                read = np.lib.format.read_array_header_1_0(header)
            self.shape, by_columns, self.dtype = read
        except ValueError as error:
            raise InvalidIndex(f"{uri} holds no array: {error}") from error
        self._start = header.tell()
        self._row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        length = self._start + self.shape[0] * self._row_bytes if self.shape else -1
        if by_columns or self.dtype.hasobject or length != file.bytes:
            raise InvalidIndex(
                f"{uri} must hold rows of plain numbers, {length} bytes as its header states; "
                f"found {file.bytes} bytes of {self.dtype} in the manifest"
            )

    def rows(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Fetch rows by number, (m,), any order; returns them in that order, (m, d)."""
        wanted, places = np.unique(numbers, return_inverse=True)
        starts = (self._start + wanted * self._row_bytes).tolist()
        data = self._files.read_ranges(self._file, starts, self._row_bytes)
        found = np.frombuffer(data, dtype=self.dtype).reshape(len(wanted), *self.shape[1:])
        return np.asarray(found[places])
