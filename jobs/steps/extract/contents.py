"""Bytes that stand in the input itself, fetched for the rows that need them and for no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pool3.inputs.contents import Contents
from pool3.inputs.table_files import Share
from udfs.contents import CONTENT, with_bytes

#: Rows of so many neighbouring positions are read by one task.
ROWS_A_BLOCK = 1 << 14


class InputContents(Protocol):
    """What gives rows of a plan their bytes.

    `in_blocks` tells whether rows whose positions are neighbours cost less than others.
    """

    in_blocks: bool

    def of(self, rows: DataFrame) -> DataFrame:
        """Return rows of a plan with their bytes as one more column, ``content``."""

    def forget(self) -> None:
        """Give back what Spark keeps for it."""


class FileContents:
    """Bytes in Parquet files, of which the tasks read what is asked for, each time anew.

    Parameters
    ----------
    shares
        Of all files of the input.
    column
        The column with the bytes.
    """

    in_blocks = True

    def __init__(self, shares: Sequence[Share], column: str) -> None:
        self._contents = Contents(shares, column)

    def of(self, rows: DataFrame) -> DataFrame:
        """Return rows with their bytes."""
        block = F.floor(F.col("position") / ROWS_A_BLOCK)
        # Without a number, Spark would see a few kilobytes and give all of them to one task.
        n_tasks = rows.sparkSession.sparkContext.defaultParallelism
        schema = T.StructType([*rows.schema.fields, T.StructField(CONTENT, T.BinaryType())])
        return rows.repartition(n_tasks, block).mapInArrow(with_bytes(self._contents), schema)

    def forget(self) -> None:
        """Nothing is kept."""


class RowContents:
    """Bytes in rows of a query, which is run once; they are kept on the executors' disks.

    Rows are found by id and digest: where a row stands in a query's result is not certain.

    Parameters
    ----------
    rows
        Rows of work that hold their bytes.
    """

    in_blocks = False
    _keys = ("image_id", "content_sha256")

    def __init__(self, rows: DataFrame) -> None:
        self._held = rows.select(*self._keys, CONTENT)

    def of(self, rows: DataFrame) -> DataFrame:
        """Return rows with their bytes."""
        held = self._held.persist(StorageLevel.DISK_ONLY)
        return rows.join(held, list(self._keys), "inner").dropDuplicates(["image_id"])

    def forget(self) -> None:
        """Free the disks."""
        self._held.unpersist()
