"""Shards built by tasks, one a task, from rows of a table or of other shards."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from jobs.steps.tasks import gather, map_shards
from pool3 import storage
from pool3.index.format.entries import METADATA, ShardEntry
from pool3.index.format.json_fields import Fields
from pool3.index.reduction.pca import Reduction
from pool3.index.shards.metadata import merged_schema
from udfs.shards import ShardSettings, assign_stored, build_shard, row_schema


@dataclass(frozen=True, kw_only=True)
class BuiltShards:
    """Shards that were stored, by number, and how much variance the reduction keeps of new rows.

    `explained` of `variance` is kept, sums over rows (`Reduction.variance`); both are 0 where the
    reduction was fitted to the rows.
    """

    shards: dict[int, ShardEntry]
    explained: float
    variance: float


def built_shards(
    rows: DataFrame, settings: ShardSettings, reduction: Reduction, n_shards: int
) -> BuiltShards:
    """Build and store shards of rows of `row_schema`; those that no row falls to are left out.

    The same rows give the same files, however they come.
    """
    function = build_shard(settings, rows.sparkSession.sparkContext.broadcast(reduction))
    frame = rows.repartitionById(n_shards, "_shard").sortWithinPartitions("image_id")
    tasks = gather(frame, function, label="building shards")
    entries = [ShardEntry.read(Fields(task["entry"], "the summary of a shard")) for task in tasks]
    return BuiltShards(
        shards={entry.number: entry for entry in entries},
        explained=sum(task["explained"] for task in tasks),
        variance=sum(task["variance"] for task in tasks),
    )


def with_empty(built: BuiltShards, n_shards: int) -> tuple[ShardEntry, ...]:
    """Return all shards; one that no row fell to is an entry without files."""
    return tuple(
        built.shards.get(number, ShardEntry(number=number, rows=0, seed=0, max_norm=0, files={}))
        for number in range(n_shards)
    )


def stored_metadata(index_uri: str, entries: Sequence[ShardEntry]) -> pa.Schema:
    """Return the columns of metadata that any of some shards has; only footers are read."""
    schema = pa.schema([])
    for entry in entries:
        if METADATA in entry.files:
            with storage.open_input(storage.join(index_uri, entry.files[METADATA].path)) as file:
                schema = merged_schema(schema, pa.ipc.open_file(file).schema)
    return schema


def stored_rows(
    spark: SparkSession,
    index_uri: str,
    entries: Sequence[ShardEntry],
    *,
    n_shards: int | None = None,
    without: Set[str] = frozenset(),
) -> DataFrame:
    """Return the live rows of shards, as builders of shards want them.

    Parameters
    ----------
    n_shards
        How many shards they are assigned to; each stays in its own when None.
    without
        Ids of rows that are left out.
    """
    carried = stored_metadata(index_uri, entries)
    excluded = spark.sparkContext.broadcast(without)
    function = assign_stored(index_uri, carried, n_shards, excluded)
    return map_shards(spark, entries, function, row_schema(carried))
