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
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from pool3.features.table import FeatureTable
from pool3.features.vectors import LeftOut, usable_rows
from pool3.float16 import as_float16
from pool3.index.changes import changed_files
from pool3.index.manifest import Manifest
from pool3.index.tombstones import DeadRows
from pool3.index.vectors import digests, storable
from pool3.storage.tables import TableFile
from udfs.files import FILE_SCHEMA, file_rows, files_of
from udfs.index_files import INDEXED_SCHEMA, indexed_rows
from udfs.scan import ID_SCHEMA, list_ids
from udfs.spread import Batches, TaskFunction, no_rows, spread

#: A usable row of the table; or, without an id, what a file holds besides, as JSON.
NEWS_SCHEMA = T.StructType(
    [
        T.StructField("image_id", T.StringType()),
        T.StructField("found", T.LongType()),  # the digest of its vector
        T.StructField("wide", T.BooleanType()),  # whether float16 cannot hold it
        T.StructField("left_out", T.StringType()),
    ]
)

# How many rows of the changed files the driver holds, and sends the ids of to every task that lists
# rows of the index.
_MOST_HELD = 200_000

#: What became of a row: by the digest of its vector in the index and in the table.
SAME, ADDED, MOVED, DEAD = "same", "added", "moved", "dead"

_INDEXED = pa.schema([field.with_nullable(True) for field in to_arrow_schema(INDEXED_SCHEMA)])
_FOUND = pa.schema([("image_id", pa.string()), ("found", pa.int64()), ("wide", pa.bool_())])
_COMPARED = pa.schema([*_INDEXED, *list(_FOUND)[1:], ("change", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What an index lacks of its table, and holds too much.

    Attributes
    ----------
    files
        The files of the table that hold every new, changed or rewritten row.
    rows
        ``image_id, shard, row, digest, found, wide, change``: of every row that was compared, where
        it stands in the index (null: nowhere), its digest in the table (null: not there, or not
        usable), and what became of it (null: it is nowhere).
    buried
        ``image_id, shard, row`` of those that no search may find any more.
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
    buried: pa.Table
    n_added: int
    n_moved: int
    n_same: int
    wide: bool
    left_out: LeftOut

    @property
    def n_dead(self) -> int:
        """How many rows die."""
        return int(self.buried.num_rows)

    def dead(self) -> dict[int, DeadRows]:
        """Return the rows that die, by shard."""
        shards, rows = (self.buried.column(name).to_numpy() for name in ("shard", "row"))
        return {
            int(shard): np.sort(rows[shards == shard]).astype(np.uint32)
            for shard in np.unique(shards)
        }

    def dead_ids(self) -> list[str]:
        """Return the ids of the rows that die."""
        ids: list[str] = self.buried.column("image_id").to_pylist()
        return ids

    def added_among(self, rows: DataFrame) -> DataFrame:
        """Return those of the files' usable rows that the index needs."""
        if not self.n_same:
            return rows
        added = self.rows.where(F.col("change").isin(ADDED, MOVED)).select("image_id")
        return rows.join(added, on="image_id", how="left_semi")

    def same(self) -> DataFrame:
        """Return ``image_id, shard, row`` of those that stand in the index as they are."""
        return self.rows.where(F.col("change") == SAME).select("image_id", "shard", "row")


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
    news = _over_files(spark, files, function, NEWS_SCHEMA)
    gone = _over_files(spark, lost, list_ids(table), ID_SCHEMA)
    if changed is not None and sum(file.rows for file in (*files, *lost)) <= _MOST_HELD:
        compared = _few_compared(spark, news.toArrow(), gone.toArrow(), base, index)
    else:
        how = "full_outer" if changed is None else "right_outer"
        compared = _compared(news.persist(), gone if lost else None, base, index, how=how)
    counts = {change: n for change, n, _ in compared.counts}
    return Changes(
        files=tuple(files),
        rows=compared.rows,
        buried=compared.buried,
        n_added=counts.get(ADDED, 0) + counts.get(MOVED, 0),
        n_moved=counts.get(MOVED, 0),
        n_same=counts.get(SAME, 0),
        wide=any(wide and change in (ADDED, MOVED) for change, _, wide in compared.counts),
        left_out=compared.left_out,
    )


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """The rows that were compared: themselves, and what is told of them.

    `counts` has each change, how many rows it became of, and whether one of these is wide.
    """

    rows: DataFrame
    buried: pa.Table
    counts: list[tuple[str | None, int, bool | None]]
    left_out: LeftOut


def _few_compared(
    spark: SparkSession, news: pa.Table, gone: pa.Table, base: Manifest, index: str
) -> _Compared:
    """Compare so few rows that the driver does it: no row of the index is shuffled for them."""
    found = news.filter(pc.field("image_id").is_valid()).select(_FOUND.names).cast(_FOUND)
    # No digest stands beside an id that only lost files hold.
    found = pa.concat_tables([found, gone], promote_options="default")
    found = found.group_by("image_id").aggregate([("found", "max"), ("wide", "max")])
    found = found.select(["image_id", "found_max", "wide_max"]).rename_columns(_FOUND.names)
    ids = found.column("image_id")
    indexed = indexed_rows(spark, index, base.shards, among=ids).toArrow().cast(_INDEXED)
    rows = marked(indexed.join(found, "image_id", join_type="right outer"))
    counted = rows.group_by("change").aggregate([([], "count_all"), ("wide", "max")])
    return _Compared(
        rows=spark.createDataFrame(rows),
        buried=rows.filter(pc.field("change").isin([MOVED, DEAD])).select(_INDEXED.names[:3]),
        counts=list(zip(*(column.to_pylist() for column in counted.columns), strict=True)),
        left_out=_left_out(news),
    )


def _compared(
    news: DataFrame, gone: DataFrame | None, base: Manifest, index: str, *, how: str
) -> _Compared:
    """Compare on Spark; `how` the index is joined with what the table has.

    Of the whole table, what it does not hold is dead; of some files, only what they held.
    """
    found = news.where("image_id is not null").select(_FOUND.names)
    if gone is not None:
        nothing = gone.selectExpr(
            "image_id", "CAST(NULL AS BIGINT) AS found", "CAST(NULL AS BOOLEAN) AS wide"
        )
        grouped = found.unionByName(nothing).groupBy("image_id")
        found = grouped.agg(F.max("found").alias("found"), F.max("wide").alias("wide"))
    indexed = indexed_rows(news.sparkSession, index, base.shards)
    joined = indexed.join(found, on="image_id", how=how)
    rows = joined.mapInArrow(_mark, from_arrow_schema(_COMPARED)).persist()
    counted = rows.groupBy("change").agg(F.count("*"), F.max("wide")).collect()
    buried = rows.where(F.col("change").isin(MOVED, DEAD)).select(_INDEXED.names[:3]).toArrow()
    left_out = _left_out(news.where("image_id is null").toArrow())
    news.unpersist()
    return _Compared(
        rows=rows, buried=buried, counts=[tuple(row) for row in counted], left_out=left_out
    )


def _mark(batches: Batches) -> Batches:
    for batch in batches:
        yield from marked(pa.Table.from_batches([batch])).to_batches()


def marked(rows: pa.Table) -> pa.Table:
    """Add the column ``change`` to rows of an index joined with those of its table, by id."""
    in_index, in_table = (pc.is_valid(rows.column(name)) for name in ("shard", "found"))
    same = pc.fill_null(pc.equal(rows.column("found"), rows.column("digest")), False)
    change = pc.case_when(
        pc.make_struct(same, pc.and_(in_index, in_table), in_table, in_index),
        SAME,
        MOVED,
        ADDED,
        DEAD,
    )
    return rows.append_column("change", change.cast(pa.string())).select(_COMPARED.names)


def _over_files(
    spark: SparkSession,
    files: Sequence[TableFile],
    function: TaskFunction,
    schema: T.StructType,
) -> DataFrame:
    if not files:
        return no_rows(spark, schema)
    return spread(spark, file_rows(files), FILE_SCHEMA, len(files)).mapInArrow(function, schema)


def _left_out(news: pa.Table) -> LeftOut:
    left_out = LeftOut()
    for text in news.column("left_out").drop_null().to_pylist():
        left_out.merge(LeftOut.from_dict(json.loads(text)))
    return left_out
