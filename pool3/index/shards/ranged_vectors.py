"""Re-rank vectors that are read from a bucket by ranges: each search fetches the rows it needs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import InvalidIndex
from pool3.index.format.entries import FileEntry
from pool3.index.format.npy import PARSING
from pool3.index.snapshots.files import IndexFiles

# NumPy's header of a matrix is 128 bytes long.
_MOST_HEADER_BYTES = 1024


class RangedVectors:
    """The rows of a remote NumPy file, fetched by ranges.

    Ranges are checked by their length only, since a SHA-256 covers a whole file.

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
        When the file is not a NumPy file, or its length differs from that in header or manifest.
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
                parsed = np.lib.format.read_array_header_1_0(header)
            self.shape, by_columns, self.dtype = parsed
        except ValueError as error:
            raise InvalidIndex(
                f"{uri} must be a NumPy file; found another file: {error}"
            ) from error
        self._start = header.tell()
        self._row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        length = self._start + self.shape[0] * self._row_bytes if self.shape else -1
        if by_columns or self.dtype.hasobject or length != file.bytes:
            raise InvalidIndex(
                f"{uri} must hold rows of plain numbers, {length} bytes as its header states; "
                f"found {file.bytes} bytes of {self.dtype} in the manifest"
            )

    def rows(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Fetch rows by number, (m,), in any order; returns them in that order, (m, d)."""
        wanted, places = np.unique(numbers, return_inverse=True)
        starts = (self._start + wanted * self._row_bytes).tolist()
        data = self._files.read_ranges(self._file, starts, self._row_bytes)
        fetched = np.frombuffer(data, dtype=self.dtype).reshape(len(wanted), *self.shape[1:])
        return np.asarray(fetched[places])
