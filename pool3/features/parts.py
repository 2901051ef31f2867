"""Parquet parts of the feature table: written locally, then stored whole under a unique name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pool3 import storage
from pool3.storage.tables import TableFile

ROW_GROUP_BYTES = 32 << 20
_DICTIONARY = (
    "status", "error", "format", "model_id", "engine", "precision", "run_id",
)  # fmt: skip
_OTHER_BYTES_A_ROW = 400  # ids, uris, digests: measured on real paths, before compression


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch in the columns and types of `schema`, nested ones too; new columns null."""
    if batch.schema.equals(schema):
        return batch
    as_struct = batch.to_struct_array().cast(pa.struct(list(schema)))
    return pa.RecordBatch.from_arrays(as_struct.flatten(), schema=schema)


class PartWriter:
    """Collects record batches of the feature table and stores them as one Parquet file.

    Use it as a context manager: when the block ends well, `finish` stores the file; when it
    raises, nothing is stored.

    Parameters
    ----------
    table_uri
        Canonical uri of the table.
    name
        File name below it, from `part_name`.
    dimension
        Length of a feature vector; it sets how many rows make a row group of 32 MB.
    schema
        Columns of the table.
    """

    def __init__(self, table_uri: str, name: str, dimension: int, schema: pa.Schema) -> None:
        self._table_uri = table_uri
        self._name = name
        self._schema = schema
        self._rows_a_group = max(1, ROW_GROUP_BYTES // (4 * dimension + _OTHER_BYTES_A_ROW))
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._bounds: tuple[str, str] | None = None
        self.rows = 0

    def __enter__(self) -> PartWriter:
        self._folder = tempfile.TemporaryDirectory(prefix="pool3-part-")
        self._path = Path(self._folder.name) / self._name
        columns = [name for name in self._schema.names if name in _DICTIONARY]
        self._file = pq.ParquetWriter(
            self._path,
            self._schema,
            compression="zstd",
            use_dictionary=columns,
            use_byte_stream_split=["features.list.element"],
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._folder.cleanup()

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
        if self._pending_rows >= self._rows_a_group:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending, self._schema)
            self._file.write_table(table, row_group_size=self._rows_a_group)
        self._pending, self._pending_rows = [], 0

    def finish(self) -> TableFile | None:
        """Store the file under its name; returns what a commit needs, or None without rows."""
        self._flush()
        self._file.close()
        if self.rows == 0 or self._bounds is None:
            return None
        storage.put_file(storage.join(self._table_uri, self._name), self._path)
        return TableFile(
            path=self._name,
            size=self._path.stat().st_size,
            rows=self.rows,
            smallest=self._bounds[0],
            largest=self._bounds[1],
        )
