"""The rows of an index as a frame: id, shard, row and digest of the vector."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from jobs.steps.tasks import map_shards
from pool3.index.format.entries import ShardEntry
from udfs.indexed import INDEXED_SCHEMA, list_indexed


def indexed_rows(
    spark: SparkSession,
    index_uri: str,
    entries: Sequence[ShardEntry],
    *,
    among: pa.ChunkedArray | None = None,
) -> DataFrame:
    """Return the live rows of shards, as `INDEXED_SCHEMA` has them.

    Parameters
    ----------
    spark
    index_uri
        Canonical uri of the index's root.
    entries
        The shards.
    among
        string: the ids of interest, which every task is sent; all when None.
    """
    return map_shards(spark, entries, list_indexed(index_uri, among), INDEXED_SCHEMA)
