"""Delta tables of results: each run's rows take the place of the run before.

Tasks store their parts first; one commit at the end puts them in the table and withdraws the old
ones. The versions before stay readable.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from pool3 import storage
from pool3.errors import UsageError
from pool3.storage.tables import TableFile, commit, open_table, table_files

_ROWS_A_GROUP = 1 << 17


class ResultWriter:
    """Writes one task's rows into one Parquet file; a context manager.

    Parameters
    ----------
    table_uri
        Canonical uri of the table.
    name
        File name below it that no other attempt uses (`pool3.storage.names.part_name`).
    schema
        Columns of the table.
    """

    def __init__(self, table_uri: str, name: str, schema: pa.Schema) -> None:
        self._uri = storage.join(table_uri, name)
        self._name = name
        self._schema = schema
        self._rows = 0

    def __enter__(self) -> ResultWriter:
        self._folder = tempfile.TemporaryDirectory(prefix="pool3-part-")
        self._path = Path(self._folder.name) / self._name
        self._file = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._folder.cleanup()

    def append(self, rows: pa.Table) -> None:
        """Add rows of the table's columns."""
        self._rows += rows.num_rows
        self._file.write_table(rows, row_group_size=_ROWS_A_GROUP)

    def finish(self) -> TableFile | None:
        """Store the file; returns what a commit needs, or None without rows."""
        self._file.close()
        if not self._rows:
            return None
        storage.put_file(self._uri, self._path)
        return TableFile(
            path=self._name,
            size=self._path.stat().st_size,
            rows=self._rows,
            smallest=None,
            largest=None,
        )


def result_version(uri: str, schema: pa.Schema, option: str = "--output") -> int | None:
    """Return the version of the table that a run will write to, None where there is none yet.

    Raises
    ------
    UsageError
        When another kind of table stands there.
    """
    table = open_table(uri)
    if table is None:
        return None
    found = pa.schema(table.schema().to_arrow()).names
    if found != schema.names:
        raise UsageError(
            f"expected {option} to name a new table or one with the columns "
            f"{', '.join(schema.names)}, found {', '.join(found)} in {uri}; name another"
        )
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
    """Put the files of a run in the place of all that the table held; returns its new version.

    Raises
    ------
    StorageError
        When another run wrote to the table since `read_version`.
    """
    table = None if read_version is None else open_table(uri, read_version)
    return commit(
        uri,
        schema=schema,
        added=files,
        removed=[] if table is None else table_files(table),
        read_version=read_version,
        run_id=run_id,
        custom_metadata={"job": job, "run_id": run_id},
    )
