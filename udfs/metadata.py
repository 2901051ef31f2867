"""Refreshes the metadata of an index from a table; trees and vectors stay as they are."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from pool3.features.column_values import (
    carried_rows,
    columns_to_read,
    from_numbered,
    numbered_columns,
    to_numbered,
)
from pool3.features.table import FeatureTable
from pool3.features.vectors import ids_of
from pool3.index.format.entries import METADATA, FileEntry, ShardEntry
from pool3.index.shards.metadata import replace_rows
from pool3.index.shards.stored import open_rows
from pool3.index.snapshots.store import store_file
from udfs.tasks import Batches, Broadcast, TaskFunction, files_of, summary

_ID = pa.schema([pa.field("image_id", pa.string())])


def metadata_schema(carried: pa.Schema) -> T.StructType:
    """Return the schema of the rows that `list_carried` yields."""
    return from_arrow_schema(pa.schema([*_ID, *numbered_columns(carried)]))


def list_carried(table: FeatureTable, carried: pa.Schema) -> TaskFunction:
    """Return the function that yields the ids and carried columns of files."""

    def run(batches: Batches) -> Batches:
        return rows_with_metadata(batches, table, carried)

    return run


def rows_with_metadata(batches: Batches, table: FeatureTable, carried: pa.Schema) -> Batches:
    """Yield the rows of files that have an id, as rows of `metadata_schema`."""
    columns = ["image_id", *columns_to_read(carried, foreign=table.foreign)]
    names = ["image_id", *numbered_columns(carried).names]
    for file in files_of(batches):
        for batch in table.read(file, columns):
            ids = ids_of(batch)
            values = carried_rows(batch, carried)
            rows = pa.RecordBatch.from_arrays([ids, *to_numbered(values)], names=names)
            yield rows.filter(pc.not_equal(ids, ""))


def refresh_shard(
    index_uri: str, shards: Broadcast[Mapping[int, ShardEntry]], carried: pa.Schema
) -> TaskFunction:
    """Return the function that stores new metadata of the shard whose rows are its partition.

    Its summary is ``{"number", "file"}``; there is none if nothing differs.

    Parameters
    ----------
    shards
        The entries of the shards by their numbers.
    carried
        The columns that get new values.
    """

    def run(batches: Batches) -> Batches:
        return refreshed_shard(batches, index_uri, shards.value, carried)

    return run


def refreshed_shard(
    batches: Batches, index_uri: str, shards: Mapping[int, ShardEntry], carried: pa.Schema
) -> Batches:
    """Store new metadata of one shard and yield its summary, unless nothing differs."""
    filled = [batch for batch in batches if batch.num_rows]
    if not filled:
        return
    rows = pa.Table.from_batches(filled)
    entry = shards[rows.column("_shard")[0].as_py()]
    file = _stored(index_uri, entry, rows, carried)
    if file is not None:
        yield summary({"number": entry.number, "file": asdict(file)})


def _stored(
    index_uri: str, entry: ShardEntry, new_rows: pa.Table, carried: pa.Schema
) -> FileEntry | None:
    old = open_rows(index_uri, entry, METADATA).table() if METADATA in entry.files else None
    rows = new_rows.column("_row").to_numpy()
    new = pa.Table.from_batches(
        [from_numbered(batch, carried) for batch in new_rows.to_batches()], schema=carried
    )
    batches = replace_rows(old, rows, new, entry.rows)
    any_differs = False
    with tempfile.TemporaryDirectory(prefix="pool3-metadata-") as folder:
        path = Path(folder) / "metadata.arrow"
        with path.open("wb") as file:
            writer = None
            for batch, differs in batches:
                any_differs |= differs
                writer = writer or pa.ipc.new_file(file, batch.schema)
                writer.write_batch(batch)
            if writer is not None:
                writer.close()
        if not any_differs:
            return None
        return store_file(index_uri, f"metadata/{uuid.uuid4().hex}/metadata.arrow", path)
