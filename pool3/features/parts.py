"""Writes the Parquet files of the feature table."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pool3.storage.parquet_writer import ParquetWriter
from pool3.storage.tables import TableFile

ROW_GROUP_BYTES = 32 << 20
_DICTIONARY = (
    "status", "error", "format", "model_id", "engine", "precision", "run_id",
)  # fmt: skip
_OTHER_BYTES_PER_ROW = 400  # ids, uris, digests: measured on real paths, before compression


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch in the columns and types of `schema`; nested ones too, missing ones null."""
    if batch.schema.equals(schema):
        return batch
    as_struct = batch.to_struct_array().cast(pa.struct(list(schema)))
    return pa.RecordBatch.from_arrays(as_struct.flatten(), schema=schema)


class PartWriter(ParquetWriter):
    """Writes record batches of the feature table into one Parquet file.

    Parameters
    ----------
    table_uri
        Canonical uri of the table.
    name
        File name below it, from `part_name`.
    dimension
        Length of a feature vector; row groups have as many rows as fit into 32 MB.
    schema
        Columns of the table.

    Notes
    -----
    It is a context manager: `finish`, called inside the block, stores the file. If the block raises
    before, nothing is stored.
    """

    def __init__(self, table_uri: str, name: str, dimension: int, schema: pa.Schema) -> None:
        super().__init__(
            table_uri,
            name,
            schema,
            use_dictionary=[column for column in schema.names if column in _DICTIONARY],
            use_byte_stream_split=["features.list.element"],
        )
        self._rows_per_group = max(1, ROW_GROUP_BYTES // (4 * dimension + _OTHER_BYTES_PER_ROW))
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._bounds: tuple[str, str] | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows; columns of the schema that they lack are null."""
        if batch.num_rows == 0:
            return
        batch = conformed(batch, self._schema)
        bounds = pc.min_max(batch.column("image_id")).as_py()
        smallest, largest = bounds["min"], bounds["max"]
        if self._bounds is not None:
            smallest, largest = min(smallest, self._bounds[0]), max(largest, self._bounds[1])
        self._bounds = (smallest, largest)
        self.rows += batch.num_rows
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        if self._pending_rows >= self._rows_per_group:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending, self._schema)
            self._file.write_table(table, row_group_size=self._rows_per_group)
        self._pending, self._pending_rows = [], 0

    def finish(self) -> TableFile | None:
        """Store the file; returns what a commit needs, or None without rows."""
        self._flush()
        return self._store(*(self._bounds or ()))
