"""Files of a shard that are written as streams: a NumPy matrix, and an Arrow IPC file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class NpyStream:
    """An open NumPy file of a matrix; its number of rows is written when it is closed.

    Parameters
    ----------
    path
        The file, which is created.
    dtype
        Name of the dtype; stored little-endian.
    length
        Numbers in a row.
    """

    def __init__(self, path: Path, *, dtype: str, length: int) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._length = length
        self._rows = 0
        self._file = path.open("wb")
        self._write_header()

    def write(self, rows: npt.NDArray[Any]) -> None:
        """Append rows of the stream's dtype, (n, length)."""
        self._file.write(rows.tobytes())
        self._rows += len(rows)

    def close(self) -> None:
        """Write the number of rows, and close the file."""
        if not self._file.closed:
            self._file.seek(0)
            self._write_header()
            self._file.close()

    def _write_header(self) -> None:
        """Write the header; NumPy pads it, so that it has the same size for any number of rows."""
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self._rows, self._length),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


class ArrowStream:
    """An open Arrow IPC file. Unlike pyarrow's own writer, it closes the file below it.

    Parameters
    ----------
    path
        The file, which is created.
    schema
        Of all batches.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("wb")
        self._writer = pa.ipc.new_file(self._file, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Write the footer, and close the file."""
        if not self._file.closed:
            self._writer.close()
            self._file.close()
