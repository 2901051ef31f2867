"""Metadata of an index refreshed: from its feature table, or from a table that `--metadata` names.

A shard's metadata is a file apart: no tree is touched.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from jobs.steps.index.changes import Changes
from jobs.steps.index.indexed import indexed_rows
from jobs.steps.index.plan import BuildPlan
from jobs.steps.tasks import gather, map_files, require_unique
from pool3.features.columns import CarriedColumns
from pool3.features.table import FeatureTable
from pool3.index.format.entries import METADATA, FileEntry, ShardEntry, TableEntry
from pool3.index.format.json_fields import Fields
from pool3.storage.tables import TableFile
from udfs.metadata import list_carried, metadata_schema, refresh_shard
from udfs.scan import ID_SCHEMA, list_ids

log = logging.getLogger(__name__)


def logged_columns(plan: BuildPlan) -> dict[str, object]:
    """Return the columns by what becomes of them, for the report; casts and losses are logged."""
    columns = (plan.metadata_columns or CarriedColumns()).over(plan.columns)
    for name, why in columns.left_out.items():
        level = logging.INFO if plan.config.column_choice().why_not(name) else logging.WARNING
        log.log(level, "the column %s is left out of the index: %s", name, why)
    for name, change in columns.cast.items():
        log.info("the column %s is cast: %s", name, change)
    return columns.report()


def require_unique_ids(spark: SparkSession, table: FeatureTable) -> None:
    """Refuse a table in which two rows have one id; in our own feature tables ids are unique."""
    ids = map_files(spark, table.files, list_ids(table), ID_SCHEMA)
    require_unique(ids, "image_id", named="image_id", where=table.uri)


def refresh_same(
    spark: SparkSession, plan: BuildPlan, entries: Sequence[ShardEntry], changes: Changes
) -> list[ShardEntry]:
    """Take in the feature table's metadata of rows whose vectors stayed as they were."""
    carried = plan.columns.schema if changes.n_same else pa.schema([])
    if plan.metadata_columns is not None:
        others = set(plan.metadata_columns.schema.names)
        carried = pa.schema([field for field in carried if field.name not in others])
    if not carried.names:
        return list(entries)
    rows = _metadata_rows(spark, plan.table, changes.files, carried)
    placed = rows.join(_placed(changes.same()), on="image_id", how="inner")
    return _refreshed(placed, plan.index, entries, carried)


def refresh_from_table(
    spark: SparkSession, plan: BuildPlan, entries: Sequence[ShardEntry]
) -> tuple[list[ShardEntry], TableEntry | None]:
    """Take in the table that ``--metadata`` names, or named in an earlier run.

    Returns
    -------
    The shards, and the table; that of an earlier run is read for shards that are new only.
    """
    table = plan.metadata
    if table is None or plan.metadata_columns is None:
        return list(entries), None if plan.base is None else plan.base.metadata
    entry = TableEntry(uri=table.uri, version=table.version)
    refresh_all, number = plan.config.metadata is not None, plan.next.number
    stale = [item for item in entries if item.rows and (refresh_all or item.added_in == number)]
    carried = plan.metadata_columns.schema
    if not stale or not carried.names:
        return list(entries), entry
    require_unique_ids(spark, table)
    rows = _placed(indexed_rows(spark, plan.index, stale))
    metadata = _metadata_rows(spark, table, table.files, carried)
    joined = rows.join(metadata, on="image_id", how="left")
    return _refreshed(joined, plan.index, entries, carried), entry


def _metadata_rows(
    spark: SparkSession, table: FeatureTable, files: Sequence[TableFile], carried: pa.Schema
) -> DataFrame:
    return map_files(spark, files, list_carried(table, carried), metadata_schema(carried))


def _placed(rows: DataFrame) -> DataFrame:
    return rows.selectExpr("image_id", "shard AS _shard", "row AS _row")


def _refreshed(
    rows: DataFrame, index_uri: str, entries: Sequence[ShardEntry], carried: pa.Schema
) -> list[ShardEntry]:
    """Store the metadata of shards with the values of some rows; returns the new entries.

    Parameters
    ----------
    rows
        ``_shard, _row`` and the columns of `carried`, of the rows that get values.
    entries
        All shards that these numbers mean.
    """
    if not entries or not carried.names:
        return list(entries)
    shards = {entry.number: entry for entry in entries}
    broadcast = rows.sparkSession.sparkContext.broadcast(shards)
    function = refresh_shard(index_uri, broadcast, carried)
    frame = rows.repartitionById(max(shards) + 1, "_shard").sortWithinPartitions("_row")
    for task in gather(frame, function, label="refreshing metadata"):
        entry = shards[task["number"]]
        file = FileEntry.read(Fields(task["file"], "a file"))
        shards[entry.number] = replace(entry, files={**entry.files, METADATA: file})
    return [shards[entry.number] for entry in entries]
