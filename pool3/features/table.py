"""Feature tables as readers see them: our Delta table at a version, or foreign Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from pool3 import storage
from pool3.errors import NotFound, StorageError, UsageError
from pool3.inputs.pictures import list_pictures
from pool3.storage import StoredObject
from pool3.storage.parquet_reader import open_parquet
from pool3.storage.tables import TableFile, open_table, table_files

_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureTable:
    """One version of a feature table.

    `version` is None for a foreign table: a plain folder of Parquet files with `image_id` and
    `features` and no log.
    """

    uri: str
    version: int | None
    files: tuple[TableFile, ...]

    @property
    def foreign(self) -> bool:
        """Whether the table is a plain folder of Parquet files."""
        return self.version is None

    def file_uri(self, file: TableFile) -> str:
        """Return the canonical uri of one file."""
        return storage.join(self.uri, file.path)

    def read(self, file: TableFile, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        """Yield some columns of one file, or all of them, at most a row group at a time."""
        with storage.open_input(self.file_uri(file)) as source:
            yield from open_parquet(source).iter_batches(batch_size=4096, columns=columns)

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
        """Return the Arrow schema of the first file."""
        return self.file_schema(self.files[0])

    def file_schema(self, file: TableFile) -> pa.Schema:
        """Return the Arrow schema of one file."""
        with storage.open_input(self.file_uri(file)) as source:
            return open_parquet(source).schema_arrow

    def log_schema(self) -> pa.Schema:
        """Return the Arrow schema in the table's log; older files may lack some columns."""
        opened = open_table(self.uri, self.version)
        if opened is None:
            raise StorageError(
                "not_found",
                f"expected version {self.version} of the table {self.uri}, found no table; another "
                "process deleted it: restore it and run again",
            )
        return pa.schema(opened.schema().to_arrow())

    def model_uri(self, model_id: str) -> str:
        """Return the uri of a model directory inside the table."""
        return model_uri(self.uri, model_id)


def model_uri(table_uri: str, model_id: str) -> str:
    """Return the uri of a model directory inside a feature table."""
    return storage.join(table_uri, "_pool3", "models", model_id)


def own_table(uri: str) -> FeatureTable | None:
    """Open the newest version of our own table, None where there is none."""
    table = open_table(uri)
    if table is None:
        return None
    return FeatureTable(uri=uri, version=table.version(), files=tuple(table_files(table)))


def open_features(where: str) -> FeatureTable:
    """Open a feature table for reading.

    Raises
    ------
    UsageError
        There is neither a Delta table nor a folder of Parquet files at `where`, or a column is
        missing.
    """
    uri = storage.canonical_uri(where)
    table = own_table(uri) or foreign_table(uri)
    names = table.schema().names if table.files else ["image_id", "features"]
    for column in ("image_id", "features"):
        if column not in names:
            raise UsageError(
                f"expected columns image_id and features in {uri}, found {', '.join(names)}; "
                "rename the columns or name another table with --features"
            )
    return table


def foreign_table(uri: str) -> FeatureTable:
    """Open a plain folder of Parquet files.

    Raises
    ------
    UsageError
        There are none.
    """
    try:
        table = parquet_table(uri, list_pictures(uri).objects)
    except (NotFound, UsageError):
        table = None
    if table is None:
        raise UsageError(
            f"expected a feature table (Delta, or a folder of Parquet files), found none at {uri}; "
            "run extract-features first or check --features"
        )
    return table


def parquet_table(uri: str, objects: Iterable[StoredObject]) -> FeatureTable | None:
    """Return the Parquet files among listed objects as a foreign table, None if there are none."""
    files = listed_files(uri, [entry for entry in objects if entry.uri.endswith(_PARQUET)])
    return FeatureTable(uri=uri, version=None, files=files) if files else None


def listed_files(table_uri: str, objects: Iterable[StoredObject]) -> tuple[TableFile, ...]:
    """Return listed objects below a table as files whose rows and bounds are unknown."""
    return tuple(
        TableFile(
            path=path_below(table_uri, entry), size=entry.size, rows=0, smallest=None, largest=None
        )
        for entry in objects
    )


def path_below(table_uri: str, entry: StoredObject) -> str:
    """Return the path of a listed object relative to its table."""
    return entry.uri.removeprefix(table_uri).lstrip("/")
