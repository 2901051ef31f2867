"""Writes one Parquet file of a table: first to a local folder, then to storage as a whole."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pool3.storage.objects import put_file
from pool3.storage.tables import TableFile
from pool3.storage.uris import join


class ParquetWriter:
    """Writes one Parquet file of a table; the base of writers for one kind of table.

    It is a context manager: a subclass stores the file inside the block, and nothing is stored if
    the block raises before.

    Parameters
    ----------
    table_uri
        Canonical uri of the table.
    name
        File name below it that no other attempt uses (`pool3.storage.names.part_name`).
    schema
        Columns of the table.
    options
        Further arguments of `pyarrow.parquet.ParquetWriter`.
    """

    def __init__(self, table_uri: str, name: str, schema: pa.Schema, **options: Any) -> None:
        self._uri = join(table_uri, name)
        self._name = name
        self._schema = schema
        self._options = options
        self.rows = 0

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="pool3-part-")
        self._path = Path(self._folder.name) / self._name
        self._file = pq.ParquetWriter(self._path, self._schema, compression="zstd", **self._options)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._folder.cleanup()

    def _store(self, smallest: str | None = None, largest: str | None = None) -> TableFile | None:
        """Store the file under its name; returns what a commit needs, or None without rows."""
        self._file.close()
        if not self.rows:
            return None
        put_file(self._uri, self._path)
        return TableFile(
            path=self._name,
            size=self._path.stat().st_size,
            rows=self.rows,
            smallest=smallest,
            largest=largest,
        )
