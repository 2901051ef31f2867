"""Reads the bytes of selected rows of tables of inputs from their Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pool3.inputs.readers import group_batches, opened
from pool3.inputs.rows import POSITIONS_PER_FILE
from pool3.inputs.table_files import Share
from pool3.inputs.types import cast
from pool3.storage.parquet_reader import open_parquet


class Contents:
    """Locates the bytes of input rows in Parquet files.

    Parameters
    ----------
    shares
        Shares of all files of the input; all of them are Parquet.
    column
        The column with the bytes.
    """

    def __init__(self, shares: Sequence[Share], column: str) -> None:
        self._files = {share.number: share for share in shares}
        self._column = column

    def read(
        self, positions: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], pa.Array]]:
        """Yield the bytes of rows at some positions, a few megabytes at a time.

        Parameters
        ----------
        positions
            int64, ascending: the column ``position`` of input rows.

        Yields
        ------
        tuple
            Indices into `positions`, and as many values; null becomes empty bytes.
        """
        done = 0
        for number, group in groupby(positions.tolist(), lambda at: at // POSITIONS_PER_FILE):
            rows = np.array(list(group), np.int64) % POSITIONS_PER_FILE
            for indices, values in self._read(self._files[number], rows):
                yield indices + done, values
            done += len(rows)

    def _read(
        self, share: Share, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], pa.Array]]:
        with opened(share) as source:
            file = open_parquet(source, pre_buffer=False, buffer_size=1 << 20)
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
