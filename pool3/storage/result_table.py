"""Delta tables of results: the rows of a run replace those of the run before.

Tasks store their files first; one commit at the end adds them to the table and removes the old
ones. Earlier versions stay readable.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pool3.errors import UsageError
from pool3.storage.parquet_writer import ParquetWriter
from pool3.storage.tables import (
    TableFile,
    commit,
    open_table,
    require_writable,
    table_files,
)

_ROWS_PER_GROUP = 1 << 17


class ResultWriter(ParquetWriter):
    """Writes the result rows of one task into one Parquet file; see `ParquetWriter`."""

    def append(self, rows: pa.Table) -> None:
        """Add rows with the columns of the table."""
        self.rows += rows.num_rows
        self._file.write_table(rows, row_group_size=_ROWS_PER_GROUP)

    def finish(self) -> TableFile | None:
        """Store the file; returns what a commit needs, or None without rows."""
        return self._store()


def result_version(uri: str, schema: pa.Schema, option: str = "--output") -> int | None:
    """Return the version of the table that a run will write to, None if it does not exist yet.

    Raises
    ------
    UsageError
        A table with other columns exists there.
    """
    table = open_table(uri)
    if table is None:
        return None
    names = pa.schema(table.schema().to_arrow()).names
    if names != schema.names:
        raise UsageError(
            f"expected {option} to name a new table or one with the columns "
            f"{', '.join(schema.names)}, found {', '.join(names)} in {uri}; name "
            "another table"
        )
    require_writable(table, table_files(table, uri), uri)
    return table.version()


def replace_rows(
    uri: str,
    *,
    schema: pa.Schema,
    files: Sequence[TableFile],
    read_version: int | None,
    run_id: str,
    job: str,
) -> int:
    """Replace all files of the table by those of a run; returns its new version.

    Raises
    ------
    StorageError
        Another run wrote to the table since `read_version`.
    """
    table = None if read_version is None else open_table(uri, read_version)
    return commit(
        uri,
        schema=schema,
        added=files,
        removed=[] if table is None else table_files(table, uri),
        read_version=read_version,
        run_id=run_id,
        custom_metadata={"job": job, "run_id": run_id},
    )
