"""What changed in a feature table since an index was built from it, row by row.

A row is told from what it was by the digest of its vector. Only the files that the table gained
are read for that, where it is known which these are; otherwise all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pool3.features.table import FeatureTable
from pool3.features.vectors import LeftOut, usable_rows
from pool3.float16 import as_float16
from pool3.index.changes import changed_files
from pool3.index.manifest import Manifest
from pool3.index.tombstones import DeadRows
from pool3.index.vectors import digests, storable
from pool3.storage.tables import TableFile
from udfs.files import FILE_SCHEMA, file_rows, files_of
from udfs.index_files import indexed_rows
from udfs.scan import ID_SCHEMA, list_ids
from udfs.spread import Batches, TaskFunction, spread

#: A usable row of the table; or, without an id, what a file holds besides, as JSON.
NEWS_SCHEMA = T.StructType(
    [
        T.StructField("image_id", T.StringType()),
        T.StructField("found", T.LongType()),  # the digest of its vector
        T.StructField("wide", T.BooleanType()),  # whether float16 cannot hold it
        T.StructField("left_out", T.StringType()),
    ]
)

# How many ids of the table are sent to every task that lists rows of the index.
_MOST_BROADCAST = 200_000

# Of a row of the index and of the table, joined by id.
_SAME = "shard IS NOT NULL AND found <=> digest"
_DEAD = "shard IS NOT NULL AND NOT (found <=> digest)"
_ADDED = "found IS NOT NULL AND NOT (found <=> digest)"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What an index lacks of its table, and holds too much.

    Attributes
    ----------
    files
        The files of the table that hold every new, changed or rewritten row.
    rows
        ``image_id, shard, row, digest, found, wide``: of every row that was compared, where it
        stands in the index (null: nowhere), and its digest in the table (null: not there, or not
        usable).
    dead
        Rows that no search may find any more, by shard.
    n_added, n_moved, n_same
        How many rows are new to the index, with this vector; how many of those take the place of
        one that dies; how many stand there as they are.
    wide
        Whether float16 cannot hold a vector that is new.
    left_out
        What those files hold besides.
    """

    files: tuple[TableFile, ...]
    rows: DataFrame
    dead: dict[int, DeadRows]
    n_added: int
    n_moved: int
    n_same: int
    wide: bool
    left_out: LeftOut

    @property
    def n_dead(self) -> int:
        """How many rows die."""
        return sum(map(len, self.dead.values()))

    def dead_ids(self) -> list[str]:
        """Return the ids of the rows that die."""
        ids: list[str] = self.rows.where(_DEAD).select("image_id").toArrow().column(0).to_pylist()
        return ids

    def added(self) -> DataFrame:
        """Return the ids whose rows the index needs: new ones, and those with another vector."""
        return self.rows.where(_ADDED).select("image_id")

    def same(self) -> DataFrame:
        """Return ``image_id, shard, row`` of those that stand in the index as they are."""
        return self.rows.where(_SAME).select("image_id", "shard", "row")


def digest_rows(table: FeatureTable, *, dimension: int, metric: str) -> TaskFunction:
    """Return the function that yields rows of `NEWS_SCHEMA` for some files."""

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            left_out = LeftOut()
            for rows in usable_rows(
                table, file, dimension=dimension, metric=metric, left_out=left_out
            ):
                short = as_float16(storable(rows.vectors, metric))
                yield _news(
                    rows.ids,
                    pa.array(digests(rows.vectors).view(np.int64)),
                    pa.array(~np.isfinite(short).all(axis=1)),
                    pa.nulls(len(rows.ids), pa.string()),
                )
            yield _news(
                pa.nulls(1, pa.string()),
                pa.nulls(1, pa.int64()),
                pa.nulls(1, pa.bool_()),
                pa.array([json.dumps(left_out.as_dict())]),
            )

    return run


def _news(*columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns), names=NEWS_SCHEMA.names)


def find_changes(spark: SparkSession, table: FeatureTable, base: Manifest, index: str) -> Changes:
    """Compare a table with the published snapshot of the index that was built from it.

    Parameters
    ----------
    base
        The snapshot.
    index
        Canonical uri of the index's root.
    """
    changed = changed_files(table, base)
    files, lost = (table.files, ()) if changed is None else changed
    function = digest_rows(table, dimension=base.dimension, metric=base.metric)
    news = _over_files(spark, files, function, NEWS_SCHEMA).persist()
    found = news.where("image_id is not null").select("image_id", "found", "wide")
    if lost:
        found = _with_lost(found, _over_files(spark, lost, list_ids(table), ID_SCHEMA))
    indexed = indexed_rows(spark, index, base.shards)
    # Of the whole table, what it does not hold is dead; of some files, only what they held.
    how = "full_outer" if changed is None else "right_outer"
    if changed is not None and sum(file.rows for file in (*files, *lost)) <= _MOST_BROADCAST:
        # Else all rows of the index would be shuffled and sorted for a few.
        ids = F.broadcast(found.select("image_id"))
        indexed = F.broadcast(indexed.join(ids, on="image_id", how="left_semi"))
    rows = indexed.join(found, on="image_id", how=how).persist()
    n_same, n_added, n_moved, n_wide = _counted(rows)
    left_out = _left_out(news)
    news.unpersist()
    return Changes(
        files=tuple(files),
        rows=rows,
        dead=_dead(rows),
        n_added=n_added,
        n_moved=n_moved,
        n_same=n_same,
        wide=n_wide > 0,
        left_out=left_out,
    )


def _over_files(
    spark: SparkSession,
    files: Sequence[TableFile],
    function: TaskFunction,
    schema: T.StructType,
) -> DataFrame:
    if not files:
        return spark.createDataFrame([], schema=schema)
    return spread(spark, file_rows(files), FILE_SCHEMA, len(files)).mapInArrow(function, schema)


def _with_lost(found: DataFrame, lost: DataFrame) -> DataFrame:
    """Add the ids that only lost files hold: no digest stands beside those."""
    nothing = lost.selectExpr(
        "image_id", "CAST(NULL AS BIGINT) AS found", "CAST(NULL AS BOOLEAN) AS wide"
    )
    grouped = found.unionByName(nothing).groupBy("image_id")
    return grouped.agg(F.max("found").alias("found"), F.max("wide").alias("wide"))


def _counted(rows: DataFrame) -> Sequence[int]:
    conditions = (_SAME, _ADDED, f"{_DEAD} AND {_ADDED}", f"wide AND {_ADDED}")
    counts = rows.agg(*[F.count_if(F.expr(condition)) for condition in conditions]).collect()
    return tuple(counts[0])


def _dead(rows: DataFrame) -> dict[int, DeadRows]:
    lost = rows.where(_DEAD).select("shard", "row").toArrow()
    shards, numbers = lost.column("shard").to_numpy(), lost.column("row").to_numpy()
    return {
        int(shard): np.sort(numbers[shards == shard]).astype(np.uint32)
        for shard in np.unique(shards)
    }


def _left_out(news: DataFrame) -> LeftOut:
    told = news.where("left_out is not null").select("left_out").toArrow().column(0).to_pylist()
    left_out = LeftOut()
    for text in told:
        left_out.merge(LeftOut.from_dict(json.loads(text)))
    return left_out
