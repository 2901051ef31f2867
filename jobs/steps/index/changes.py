"""The rows of a feature table compared with those of an index: added, moved, deleted, the same."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.steps.index.indexed import indexed_rows
from jobs.steps.tasks import map_files
from pool3.features.table import FeatureTable
from pool3.features.vectors import SkippedRows
from pool3.index.changes import changed_files
from pool3.index.format.manifest import Manifest
from pool3.index.shards.tombstones import DeletedRows
from pool3.storage.tables import TableFile
from udfs.changes import (
    ADDED,
    COMPARED,
    DELETED,
    DIGEST_SCHEMA,
    INDEXED,
    MOVED,
    SAME,
    TABLE_DIGESTS,
    digest_rows,
    mark,
    marked,
)
from udfs.scan import ID_SCHEMA, list_ids

# How many rows of the changed files the driver compares itself; every task that lists rows of the
# index is sent their ids.
MAX_DRIVER_ROWS = 200_000


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How the rows of a table differ from those of the index that was built from it.

    Attributes
    ----------
    files
        The files of the table that hold every new, changed or rewritten row.
    rows
        ``image_id, shard, row, digest, table_digest, wide, change``: of every row that was
        compared, where it stands in the index (null: nowhere), its digest in the table (null: not
        there, or not usable), and what became of it (null: it is nowhere).
    deleted_rows
        ``image_id, shard, row`` of those that no search may find any more.
    n_added, n_moved, n_same
        How many rows are new to the index, with this vector; how many of those take the place of
        one that is deleted; how many stand there as they are.
    wide
        Whether float16 cannot hold a vector that is new.
    skipped_rows
        What those files hold besides.
    """

    files: tuple[TableFile, ...]
    rows: DataFrame
    deleted_rows: pa.Table
    n_added: int
    n_moved: int
    n_same: int
    wide: bool
    skipped_rows: SkippedRows

    @property
    def n_deleted(self) -> int:
        """How many rows of the index are deleted."""
        return int(self.deleted_rows.num_rows)

    def deleted(self) -> dict[int, DeletedRows]:
        """Return the deleted rows, by shard."""
        shards, rows = (self.deleted_rows.column(name).to_numpy() for name in ("shard", "row"))
        return {
            int(shard): np.sort(rows[shards == shard]).astype(np.uint32)
            for shard in np.unique(shards)
        }

    def deleted_ids(self) -> list[str]:
        """Return the ids of the deleted rows."""
        ids: list[str] = self.deleted_rows.column("image_id").to_pylist()
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
    digests = map_files(spark, files, function, DIGEST_SCHEMA)
    gone = map_files(spark, lost, list_ids(table), ID_SCHEMA)
    if changed is not None and sum(file.rows for file in (*files, *lost)) <= MAX_DRIVER_ROWS:
        compared = _few_compared(spark, digests.toArrow(), gone.toArrow(), base, index)
    else:
        how = "full_outer" if changed is None else "right_outer"
        compared = _compared(digests.persist(), gone if lost else None, base, index, how=how)
    counts = {change: n for change, n, _ in compared.counts}
    return Changes(
        files=tuple(files),
        rows=compared.rows,
        deleted_rows=compared.deleted_rows,
        n_added=counts.get(ADDED, 0) + counts.get(MOVED, 0),
        n_moved=counts.get(MOVED, 0),
        n_same=counts.get(SAME, 0),
        wide=any(wide and change in (ADDED, MOVED) for change, _, wide in compared.counts),
        skipped_rows=compared.skipped_rows,
    )


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """The rows that were compared: themselves, and what they add up to.

    `counts` has each change, how many rows it became of, and whether one of these is wide.
    """

    rows: DataFrame
    deleted_rows: pa.Table
    counts: list[tuple[str | None, int, bool | None]]
    skipped_rows: SkippedRows


def _few_compared(
    spark: SparkSession, digests: pa.Table, gone: pa.Table, base: Manifest, index: str
) -> _Compared:
    """Compare so few rows that the driver does it: no row of the index is shuffled for them."""
    table_digests = (
        digests.filter(pc.field("image_id").is_valid())
        .select(TABLE_DIGESTS.names)
        .cast(TABLE_DIGESTS)
    )
    # No digest stands beside an id that only lost files hold.
    table_digests = pa.concat_tables([table_digests, gone], promote_options="default")
    table_digests = table_digests.group_by("image_id").aggregate(
        [("table_digest", "max"), ("wide", "max")]
    )
    table_digests = table_digests.select(
        ["image_id", "table_digest_max", "wide_max"]
    ).rename_columns(TABLE_DIGESTS.names)
    ids = table_digests.column("image_id")
    indexed = indexed_rows(spark, index, base.shards, among=ids).toArrow().cast(INDEXED)
    rows = marked(indexed.join(table_digests, "image_id", join_type="right outer"))
    counted = rows.group_by("change").aggregate([([], "count_all"), ("wide", "max")])
    return _Compared(
        rows=spark.createDataFrame(rows),
        deleted_rows=rows.filter(pc.field("change").isin([MOVED, DELETED])).select(
            INDEXED.names[:3]
        ),
        counts=list(zip(*(column.to_pylist() for column in counted.columns), strict=True)),
        skipped_rows=_skipped_rows(digests),
    )


def _compared(
    digests: DataFrame, gone: DataFrame | None, base: Manifest, index: str, *, how: str
) -> _Compared:
    """Compare on Spark; `how` the index is joined with what the table has.

    Of the whole table, what it does not have is deleted; of some files, only what they had.
    """
    table_digests = digests.where("image_id is not null").select(TABLE_DIGESTS.names)
    if gone is not None:
        without_digest = gone.selectExpr(
            "image_id", "CAST(NULL AS BIGINT) AS table_digest", "CAST(NULL AS BOOLEAN) AS wide"
        )
        grouped = table_digests.unionByName(without_digest).groupBy("image_id")
        table_digests = grouped.agg(
            F.max("table_digest").alias("table_digest"), F.max("wide").alias("wide")
        )
    indexed = indexed_rows(digests.sparkSession, index, base.shards)
    joined = indexed.join(table_digests, on="image_id", how=how)
    rows = joined.mapInArrow(mark, from_arrow_schema(COMPARED)).persist()
    counted = rows.groupBy("change").agg(F.count("*"), F.max("wide")).collect()
    deleted_rows = (
        rows.where(F.col("change").isin(MOVED, DELETED)).select(INDEXED.names[:3]).toArrow()
    )
    skipped_rows = _skipped_rows(digests.where("image_id is null").toArrow())
    digests.unpersist()
    return _Compared(
        rows=rows,
        deleted_rows=deleted_rows,
        counts=[tuple(row) for row in counted],
        skipped_rows=skipped_rows,
    )


def _skipped_rows(digests: pa.Table) -> SkippedRows:
    skipped_rows = SkippedRows()
    for text in digests.column("skipped_rows").drop_null().to_pylist():
        skipped_rows.merge(SkippedRows.from_dict(json.loads(text)))
    return skipped_rows
