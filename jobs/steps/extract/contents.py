"""Adds the bytes that an input itself contains to the rows of a plan that need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pool3.inputs.contents import Contents
from pool3.inputs.table_files import Share
from udfs.contents import CONTENT, add_content

#: Rows of this many consecutive positions are read by one task.
ROWS_PER_BLOCK = 1 << 14


class InputContents(Protocol):
    """Adds the bytes of pictures to rows of a plan.

    `in_blocks` says whether reading rows of consecutive positions costs less than reading others.
    """

    in_blocks: bool

    def of(self, rows: DataFrame) -> DataFrame:
        """Return rows of a plan with their bytes in one more column, ``content``."""

    def unpersist(self) -> None:
        """Release what Spark persists for it."""


class FileContents:
    """Bytes in Parquet files; tasks read those of the requested rows, every time again.

    Parameters
    ----------
    shares
        Shares of all files of the input.
    column
        The column with the bytes.
    """

    in_blocks = True

    def __init__(self, shares: Sequence[Share], column: str) -> None:
        self._contents = Contents(shares, column)

    def of(self, rows: DataFrame) -> DataFrame:
        """Return rows with their bytes."""
        block = F.floor(F.col("position") / ROWS_PER_BLOCK)
        # Without a number of partitions, Spark would coalesce a few kilobytes into one task.
        n_tasks = rows.sparkSession.sparkContext.defaultParallelism
        schema = T.StructType([*rows.schema.fields, T.StructField(CONTENT, T.BinaryType())])
        return rows.repartition(n_tasks, block).mapInArrow(add_content(self._contents), schema)

    def unpersist(self) -> None:
        """Do nothing: nothing is persisted."""


class RowContents:
    """Bytes in rows of a query, which runs once and is persisted on the executors' disks.

    Rows are matched by id and digest, since the order of a query's result is not deterministic.

    Parameters
    ----------
    rows
        Input rows with their bytes.
    """

    in_blocks = False
    _keys = ("image_id", "content_sha256")

    def __init__(self, rows: DataFrame) -> None:
        self._contents = rows.select(*self._keys, CONTENT)

    def of(self, rows: DataFrame) -> DataFrame:
        """Return rows with their bytes."""
        contents = self._contents.persist(StorageLevel.DISK_ONLY)
        return rows.join(contents, list(self._keys), "inner").dropDuplicates(["image_id"])

    def unpersist(self) -> None:
        """Free the executors' disks."""
        self._contents.unpersist()
