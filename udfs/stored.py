"""Rows of shards as they are stored, dealt to shards anew: no vector is rounded twice."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from pool3 import storage
from pool3.index.manifest import IDS, METADATA, Manifest, ShardEntry
from pool3.index.row_metadata import merged_schema
from pool3.index.tombstones import live_mask
from udfs.index_files import open_rows, open_vectors, shard_frame, shards_of
from udfs.shard import dealt_rows, row_schema
from udfs.spread import Batches, TaskFunction

_ROWS_AT_ONCE = 4096


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
        Into how many shards they are dealt; each stays in its own when None.
    without
        Ids of rows that are left out.
    """
    carried = stored_metadata(index_uri, entries)
    left_out = spark.sparkContext.broadcast(without)
    deal = deal_stored(index_uri, carried, n_shards, left_out)
    return shard_frame(spark, entries).mapInArrow(deal, row_schema(carried))


def deal_stored(
    index_uri: str, carried: pa.Schema, n_shards: int | None, without: Any
) -> TaskFunction:
    """Return the function that yields the live rows of some shards.

    Parameters
    ----------
    without
        Spark broadcast of the ids to leave out.
    """

    def run(batches: Batches) -> Batches:
        unwanted = pa.array(sorted(without.value), pa.string())
        for entry in shards_of(batches):
            live = live_mask(index_uri, entry)
            ids = open_rows(index_uri, entry, IDS).table()
            live &= ~pc.is_in(ids.column("image_id"), unwanted).to_numpy()
            vectors = open_vectors(index_uri, entry)
            metadata = pa.table({})
            if METADATA in entry.files:
                metadata = open_rows(index_uri, entry, METADATA).table()
            for start in range(0, entry.rows, _ROWS_AT_ONCE):
                rows = start + np.flatnonzero(live[start : start + _ROWS_AT_ONCE])
                if len(rows):
                    told = _taken(metadata, carried, rows)
                    yield dealt_rows(
                        _column(ids, "image_id", rows),
                        vectors[rows].astype(np.float32),
                        told,
                        n_shards,
                        number=entry.number,
                        digests=_digests(ids, rows),
                    )

    return run


def _taken(table: pa.Table, carried: pa.Schema, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    arrays = [
        _column(table, field.name, rows).cast(field.type)
        if field.name in table.schema.names
        else pa.nulls(len(rows), field.type)
        for field in carried
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=carried)


def _column(table: pa.Table, name: str, rows: npt.NDArray[np.int64]) -> pa.Array:
    first, last = int(rows[0]), int(rows[-1])
    near = table.column(name).slice(first, last - first + 1).combine_chunks()
    return pa.array(near).take(pa.array(rows - first))


def _digests(ids: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Array:
    """Return digests as Spark holds them; 0 where the shard is of a format that had none."""
    if "digest" not in ids.schema.names:
        return pa.array(np.zeros(len(rows), dtype=np.int64))
    return pa.array(_column(ids, "digest", rows).to_numpy().view(np.int64))


def folded(manifest: Manifest) -> bool:
    """Tell whether an index has nothing to fold: no dead row, and no shard added later."""
    filled = [entry for entry in manifest.shards if entry.rows]
    return not any(entry.dead for entry in filled) and len({e.added_in for e in filled}) < 2
