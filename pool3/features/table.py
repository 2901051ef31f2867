"""Tables of rows as every role reads them, of features, metadata or queries: `open_rows`.

A table is a Delta table at a version, ours or another's, or files without a log: a folder or a
single file. What a file does not have by itself is added here: rows that a deletion vector
deletes are left out, and columns of partitions are filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pool3 import storage
from pool3.errors import UsageError
from pool3.features.schema import FEATURE_SCHEMA
from pool3.inputs.lake_tables import DELTA, FEATURES, table_kind
from pool3.inputs.readers import read_share, share_schema
from pool3.inputs.table_files import (
    PARQUET,
    Share,
    file_uri,
    format_of,
    list_table,
    listed_file,
    no_files,
)
from pool3.storage import StoredObject
from pool3.storage.delta_protocol import unpack_mask
from pool3.storage.parquet_reader import MisreadTimes, iter_batches, open_parquet
from pool3.storage.tables import TableFile, open_table, require_writable, table_files

#: Those that each row of our own tables has.
OWN_COLUMNS = frozenset(field.name for field in FEATURE_SCHEMA if not field.nullable)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureTable:
    """One version of a table of rows: of features, of metadata or of queries.

    Attributes
    ----------
    uri
        Canonical uri of the table, a folder or a single file.
    version
        Of a Delta table; None for files without a log.
    files
        The files of the version.
    columns
        Arrow schema in the log of a Delta table; None for files without a log.
    """

    uri: str
    version: int | None
    files: tuple[TableFile, ...]
    columns: pa.Schema | None = None

    @property
    def foreign(self) -> bool:
        """Whether another program wrote the table: it has no status, and every row counts."""
        return self.columns is None or not set(self.columns.names) >= OWN_COLUMNS

    def file_uri(self, file: TableFile) -> str:
        """Return the canonical uri of one file."""
        return file_uri(self.uri, file)

    def read(self, file: TableFile, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        """Yield some columns of one file, or all of them, at most a row group at a time."""
        first = 0
        deleted = (
            None if file.deleted is None else unpack_mask(file.deleted, self._stored_rows(file))
        )
        for stored in self._stored(file, columns):
            live = stored
            if deleted is not None:
                live = stored.filter(pa.array(~deleted[first : first + stored.num_rows]))
                first += stored.num_rows
            yield self._completed(live, file, columns)

    def _stored(self, file: TableFile, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        uri = self.file_uri(file)
        if format_of(uri) not in (None, PARQUET):
            yield from _text_batches(self._share(file), columns)
            return
        with storage.open_input(uri) as source:
            try:
                yield from iter_batches(open_parquet(source), batch_size=4096, columns=columns)
            except MisreadTimes as error:
                raise UsageError(
                    f"expected dates and timestamps that are read as they were written in "
                    f"{self.uri}, found that {error}, in {uri}"
                ) from error

    def _completed(
        self, batch: pa.RecordBatch, file: TableFile, columns: list[str] | None
    ) -> pa.RecordBatch:
        """Add the columns that are not in the file, and give the others the types of the log."""
        logged = pa.schema([]) if self.columns is None or not self.foreign else self.columns
        batch = _as_logged(batch, logged)
        for name, value in file.partition:
            if _lacks(batch, name, columns):
                kind = logged.field(name).type if name in logged.names else pa.string()
                batch = _with_column(batch, name, _repeated(value, kind, batch.num_rows))
        for field in logged:  # of a file that was written before the column existed
            if _lacks(batch, field.name, columns):
                batch = _with_column(batch, field.name, pa.nulls(batch.num_rows, field.type))
        return batch

    def n_rows(self, file: TableFile) -> int:
        """Return the number of rows of one file that are not deleted, reading it if needed."""
        if file.rows:
            return file.rows
        stored = self._stored_rows(file)
        return stored - int(np.count_nonzero(unpack_mask(file.deleted, stored)))

    def _stored_rows(self, file: TableFile) -> int:
        with storage.open_input(self.file_uri(file)) as source:
            return int(open_parquet(source).metadata.num_rows)

    def model_id(self) -> str | None:
        """Return the id of the model of the features, None for a foreign or an empty table."""
        if self.foreign:
            return None
        for file in self.files:
            for batch in self.read(file, ["model_id"]):
                if batch.num_rows:
                    return str(batch.column(0)[0])
        return None

    def schema(self) -> pa.Schema:
        """Return the Arrow schema: the log's, or that of the first file and its partition."""
        if self.columns is not None and (self.foreign or not self.files):
            return self.columns
        first = self.files[0]
        schema = self.file_schema(first)
        added = [pa.field(name, pa.string()) for name, _ in first.partition]
        return pa.schema([*schema, *(field for field in added if field.name not in schema.names)])

    def file_schema(self, file: TableFile) -> pa.Schema:
        """Return the Arrow schema of one file, without the columns of its partition."""
        if format_of(self.file_uri(file)) not in (None, PARQUET):
            return share_schema(self._share(file), keep_untyped=True)
        with storage.open_input(self.file_uri(file)) as source:
            return open_parquet(source).schema_arrow

    def _share(self, file: TableFile) -> Share:
        uri = self.file_uri(file)
        return Share(source=self.uri, file=uri, format=str(format_of(uri)), number=0)

    def log_schema(self) -> pa.Schema:
        """Return the Arrow schema in the table's log; older files may lack some columns."""
        return self.schema() if self.columns is None else self.columns

    def model_uri(self, model_id: str) -> str:
        """Return the uri of a model directory inside the table."""
        return model_uri(self.uri, model_id)


def _text_batches(share: Share, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    schema = share_schema(share, keep_untyped=True)
    for _, batch in read_share(share, schema, schema):
        names = [name for name in schema.names if columns is None or name in columns]
        yield batch.select(names)


def _as_logged(batch: pa.RecordBatch, logged: pa.Schema) -> pa.RecordBatch:
    """Give plain columns the types of the log, which may be wider than those of an older file."""
    for at, field in enumerate(batch.schema):
        kind = logged.field(field.name).type if field.name in logged.names else field.type
        if kind != field.type and not pa.types.is_nested(kind):
            options = pc.CastOptions(kind, allow_time_truncate=True)
            try:
                values = pc.cast(batch.column(at), options=options)
            except pa.ArrowException as error:
                raise UsageError(
                    f"expected {kind} in column {field.name}, as the table's log has it, found "
                    f"{field.type} in a file ({str(error).splitlines()[0]}); rewrite the table"
                ) from error
            batch = batch.set_column(at, pa.field(field.name, kind), values)
    return batch


def _lacks(batch: pa.RecordBatch, name: str, columns: list[str] | None) -> bool:
    return name not in batch.schema.names and (columns is None or name in columns)


def _with_column(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    schema = batch.schema.append(pa.field(name, values.type))
    return pa.RecordBatch.from_arrays([*batch.columns, values], schema=schema)


def _repeated(value: str | None, kind: pa.DataType, n_rows: int) -> pa.Array:
    if value is None:
        return pa.nulls(n_rows, kind)
    return pa.repeat(pa.scalar(value, pa.string()).cast(kind), n_rows)


def model_uri(table_uri: str, model_id: str) -> str:
    """Return the uri of a model directory inside a feature table."""
    return storage.join(table_uri, "_pool3", "models", model_id)


def delta_table(uri: str) -> FeatureTable | None:
    """Open the newest version of a Delta table, ours or another's; None where there is none.

    Raises
    ------
    UsageError
        It is a table whose rows cannot be read rightly.
    """
    opened = open_table(uri)
    return None if opened is None else _rows_of(opened, uri)


def _rows_of(table: DeltaTable, uri: str) -> FeatureTable:
    return FeatureTable(
        uri=uri,
        version=table.version(),
        files=tuple(table_files(table, uri)),
        columns=pa.schema(table.schema().to_arrow()),
    )


def own_table(uri: str) -> FeatureTable | None:
    """Open the newest version of our own table to write to it; None where there is none.

    Raises
    ------
    UsageError
        There is a Delta table that is not ours, or that has deletion vectors or partitions.
    """
    opened = open_table(uri)
    if opened is None:
        return None
    table = _rows_of(opened, uri)
    if table.foreign:
        missing = sorted(OWN_COLUMNS - set(table.schema().names))
        raise UsageError(
            f"expected a feature table that extract-features made at {uri}, found a Delta table "
            f"without {', '.join(missing)}; name another table"
        )
    require_writable(opened, table.files, uri)
    return table


def open_rows(where: str, *, what: str, option: str) -> FeatureTable:
    """Open a table for reading, whatever its role.

    Parameters
    ----------
    where
        A Delta table; or a folder or a single file of Parquet, or else of CSV or JSON lines.
    what
        The kind of table that is expected, for errors.
    option
        The option that names it, for errors.

    Raises
    ------
    UsageError
        There is no table, it has no file, or its rows cannot be read rightly.
    """
    uri = storage.canonical_uri(where)
    kind = table_kind(uri)
    table = delta_table(uri) if kind == DELTA else None
    if table is not None:
        if not table.files and table.foreign:
            raise no_files(uri)
        return table
    files = () if kind in (DELTA, FEATURES) else list_table(where)
    if not files:
        raise UsageError(
            f"expected {what} (Delta, or a file or folder of Parquet, CSV or JSON lines), found "
            f"none at {uri}; check {option}"
        )
    return FeatureTable(uri=uri, version=None, files=files)


def open_features(where: str) -> FeatureTable:
    """Open a feature table for reading.

    Raises
    ------
    UsageError
        There is neither a Delta table nor a folder of Parquet files at `where`, or a column is
        missing.
    """
    table = open_rows(
        where, what="a feature table", option="--features, or run extract-features first"
    )
    require_columns(table, ("image_id", "features"), "--features")
    return table


def require_columns(table: FeatureTable, columns: Sequence[str], option: str) -> None:
    """Raise `UsageError` if a table lacks one of some columns."""
    names = table.schema().names
    if not set(columns) <= set(names):
        what = "columns" if len(columns) > 1 else "a column"
        raise UsageError(
            f"expected {what} {' and '.join(columns)} in {table.uri}, found "
            f"{', '.join(names) or 'none'}; rename the columns or name another table with {option}"
        )


def listed_files(table_uri: str, objects: Iterable[StoredObject]) -> tuple[TableFile, ...]:
    """Return listed objects below a table as files whose rows and bounds are unknown."""
    return tuple(listed_file(table_uri, entry) for entry in objects)
