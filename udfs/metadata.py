"""The metadata of an index refreshed from a table, without touching a tree."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from pool3.features.columns import carried_rows, columns_to_read, nameless
from pool3.features.table import FeatureTable
from pool3.index.format.manifest import METADATA, FileEntry, ShardEntry
from pool3.index.shards.metadata import replaced
from pool3.index.shards.stored import open_rows
from pool3.index.snapshots.store import store_file
from udfs.tasks import Batches, TaskFunction, files_of, summary

_ID = pa.schema([pa.field("image_id", pa.string())])


def metadata_schema(carried: pa.Schema) -> T.StructType:
    """Return the schema of what `list_carried` yields."""
    return from_arrow_schema(pa.schema([*_ID, *nameless(carried)]))


def list_carried(table: FeatureTable, carried: pa.Schema) -> TaskFunction:
    """Return the function that yields the ids and carried columns of some files."""
    columns = ["image_id", *columns_to_read(carried, foreign=table.foreign)]

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            for batch in table.read(file, columns):
                ids = batch.column("image_id").cast(pa.string())
                values = carried_rows(batch, carried)
                yield pa.RecordBatch.from_arrays(
                    [ids, *values.columns], names=["image_id", *nameless(carried).names]
                ).filter(ids.is_valid())

    return run


def refresh_shard(index_uri: str, shards: Any, carried: pa.Schema) -> TaskFunction:
    """Return the function that stores new metadata of the shard whose rows are its partition.

    Its summary is ``{"number", "file"}``; there is none where nothing differs.

    Parameters
    ----------
    shards
        Spark broadcast of the `ShardEntry` of each number.
    carried
        The columns that get new values.
    """

    def run(batches: Batches) -> Batches:
        whole = pa.Table.from_batches([batch for batch in batches if batch.num_rows] or [_NOTHING])
        if not whole.num_rows:
            return
        entry: ShardEntry = shards.value[whole.column("_shard")[0].as_py()]
        file = _stored(index_uri, entry, whole, carried)
        if file is not None:
            yield summary({"number": entry.number, "file": asdict(file)})

    return run


_NOTHING = pa.RecordBatch.from_arrays([pa.array([], pa.int32())], names=["_shard"])


def _stored(
    index_uri: str, entry: ShardEntry, told: pa.Table, carried: pa.Schema
) -> FileEntry | None:
    old = open_rows(index_uri, entry, METADATA).table() if METADATA in entry.files else None
    rows = told.column("_row").to_numpy()
    new = told.select(nameless(carried).names).rename_columns(carried.names)
    batches = replaced(old, rows, new, entry.rows)
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
