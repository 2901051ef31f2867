"""The bytes of chosen rows of tables of inputs, read where they stand in the Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pool3.inputs.readers import group_batches, opened
from pool3.inputs.rows import ROWS_A_FILE
from pool3.inputs.table_files import Share
from pool3.inputs.types import cast


class Contents:
    """Where the bytes of an input's rows are.

    Parameters
    ----------
    shares
        Of all files of the input; only Parquet holds bytes.
    column
        The column of them.
    """

    def __init__(self, shares: Sequence[Share], column: str) -> None:
        self._files = {share.number: share for share in shares}
        self._column = column

    def read(
        self, positions: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], pa.Array]]:
        """Yield the bytes at some positions, a few megabytes at a time.

        Parameters
        ----------
        positions
            int64, ascending, as `pool3.inputs.rows.RowMaker` was given them.

        Yields
        ------
        tuple
            Indices into `positions`, and as many values; null bytes are empty ones.
        """
        done = 0
        for number, found in groupby(positions.tolist(), lambda place: place // ROWS_A_FILE):
            rows = np.array(list(found), np.int64) % ROWS_A_FILE
            for within, values in self._read(self._files[number], rows):
                yield within + done, values
            done += len(rows)

    def _read(
        self, share: Share, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], pa.Array]]:
        with opened(share) as source:
            file = pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
            first = 0
            for group in range(file.metadata.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if np.searchsorted(rows, first) < np.searchsorted(rows, first + count):
                    for at, batch in group_batches(file, group, first, [self._column]):
                        low, high = np.searchsorted(rows, [at, at + batch.num_rows])
                        if low < high:
                            wanted = pa.array(rows[low:high] - at)
                            values = cast(batch.column(0).take(wanted), pa.binary())
                            yield np.arange(low, high), values.fill_null(b"")
                first += count
