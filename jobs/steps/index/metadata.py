"""Where the metadata of an index comes from, besides its feature table: the driver's side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.steps.index.build import Build
from jobs.steps.index.changes import Changes
from jobs.steps.index.indexed import indexed_rows
from jobs.steps.tasks import gather, spread
from pool3 import storage
from pool3.errors import Pool3Error, UsageError
from pool3.features.columns import carried_schema, plain_columns
from pool3.features.table import FeatureTable, foreign_table, own_table
from pool3.index.format.json_fields import Fields
from pool3.index.format.manifest import METADATA, FileEntry, ShardEntry, TableEntry
from pool3.storage.tables import TableFile
from udfs.metadata import list_carried, refresh_shard, told_schema
from udfs.scan import ID_SCHEMA, list_ids
from udfs.tasks import FILE_SCHEMA, file_rows

log = logging.getLogger(__name__)


def require_unique_ids(spark: SparkSession, table: FeatureTable) -> None:
    """Refuse a table in which two rows have one id; in our own feature tables ids are unique."""
    frame = spread(spark, file_rows(table.files), FILE_SCHEMA, len(table.files))
    ids = frame.mapInArrow(list_ids(table), ID_SCHEMA)
    repeated = ids.groupBy("image_id").count().where(F.col("count") > 1)
    found = [row.image_id for row in repeated.orderBy("image_id").limit(5).collect()]
    if found:
        raise UsageError(
            f"expected each image_id once in {table.uri}, found several rows of "
            f"{', '.join(map(repr, found))}; remove the duplicates"
        )


def refresh_same(build: Build, entries: Sequence[ShardEntry], changes: Changes) -> list[ShardEntry]:
    """Take in what the feature table tells anew of rows whose vectors stayed as they were."""
    carried = carried_schema(build.table) if changes.n_same else pa.schema([])
    other = _remembered(build)
    if other is not None:
        names = set(_columns(other).names)
        carried = pa.schema([field for field in carried if field.name not in names])
    if not carried.names:
        return list(entries)
    told = _told(build.spark, build.table, changes.files, carried)
    return refreshed(
        told.join(_placed(changes.same()), on="image_id", how="inner"),
        build.index,
        entries,
        carried,
    )


def refresh_from_table(
    build: Build, entries: Sequence[ShardEntry]
) -> tuple[list[ShardEntry], TableEntry | None]:
    """Take in the table that ``--metadata`` names, or named in an earlier run.

    Returns
    -------
    The shards, and the table; an earlier one tells only of shards that are new.
    """
    table = _remembered(build)
    if table is None:
        return list(entries), None if build.base is None else build.base.metadata
    asked = build.config.metadata is not None
    entry = TableEntry(uri=table.uri, version=table.version)
    told_of = [item for item in entries if item.rows and (asked or _new(build, item))]
    carried = _columns(table)
    if not told_of or not carried.names:
        return list(entries), entry
    require_unique_ids(build.spark, table)
    told = _told(build.spark, table, table.files, carried)
    rows = _placed(indexed_rows(build.spark, build.index, told_of))
    joined = rows.join(told, on="image_id", how="left")
    return refreshed(joined, build.index, entries, carried), entry


def _new(build: Build, entry: ShardEntry) -> bool:
    return entry.added_in == build.snapshot


def _remembered(build: Build) -> FeatureTable | None:
    """Open the table of ``--metadata``, or that of an earlier run, which may have gone."""
    if build.config.metadata is not None:
        return open_metadata(build.config.metadata)
    before = build.base.metadata if build.base is not None else None
    if before is None:
        return None
    try:
        return open_metadata(before.uri)
    except Pool3Error as error:
        warning = f"new rows have no metadata of {before.uri}: {error}"
        if warning not in build.report.warnings:
            build.report.warnings.append(warning)
        return None


def open_metadata(where: str) -> FeatureTable:
    """Open a table with image_id and other columns.

    Raises
    ------
    UsageError
        There is none, or it has no image_id.
    """
    uri = storage.canonical_uri(where)
    table = own_table(uri) or foreign_table(uri)
    names = table.schema().names if table.files else []
    if "image_id" not in names:
        raise UsageError(
            f"expected a column image_id in {uri}, found {', '.join(names) or 'no column'}; "
            "name another table with --metadata"
        )
    return table


def _columns(table: FeatureTable) -> pa.Schema:
    return plain_columns(table.schema())


def _told(
    spark: SparkSession, table: FeatureTable, files: Sequence[TableFile], carried: pa.Schema
) -> DataFrame:
    frame = spread(spark, file_rows(files), FILE_SCHEMA, len(files))
    return frame.mapInArrow(list_carried(table, carried), told_schema(carried))


def _placed(rows: DataFrame) -> DataFrame:
    return rows.selectExpr("image_id", "shard AS _shard", "row AS _row")


def refreshed(
    told: DataFrame, index_uri: str, entries: Sequence[ShardEntry], carried: pa.Schema
) -> list[ShardEntry]:
    """Store the metadata of shards with what a table tells of their rows; returns the new entries.

    Parameters
    ----------
    told
        ``_shard, _row`` and the columns of `carried`, of the rows that something is told of.
    entries
        All shards that these numbers mean.
    """
    if not entries or not carried.names:
        return list(entries)
    shards = {entry.number: entry for entry in entries}
    broadcast = told.sparkSession.sparkContext.broadcast(shards)
    function = refresh_shard(index_uri, broadcast, carried)
    frame = told.repartitionById(max(shards) + 1, "_shard").sortWithinPartitions("_row")
    for task in gather(frame, function, label="refreshing metadata"):
        entry = shards[task["number"]]
        file = FileEntry.read(Fields(task["file"], "a file"))
        shards[entry.number] = replace(entry, files={**entry.files, METADATA: file})
    return [shards[entry.number] for entry in entries]
