"""Delta tables: opened at a version, and changed by one commit of add and remove actions.

`table_files` is the one list of a table's files: every role that reads rows gets them from it, so
that each table is read right or refused by name.

Tasks write Parquet files; a commit adds them to the table. Files that no commit adds, such as those
of a retried task or of a killed run, are invisible to readers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from pool3.errors import StorageError, UsageError
from pool3.storage.delta_protocol import (
    count_deleted,
    deleted_rows,
    path_in_table,
    require_supported,
    unsupported_protocol,
)
from pool3.storage.objects import exists, is_directory
from pool3.storage.uris import is_table_location, join, table_location


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFile:
    """One file of a table, a Parquet file unless the table is a folder of text files.

    Attributes
    ----------
    path
        Relative to the table, as the store has it.
    size
        Bytes.
    rows
        Rows that are not deleted; 0 if the log does not have the number.
    smallest, largest
        Bounds of the column ``image_id``, None if the log does not have them.
    partition
        Names and values, as text, of the columns whose values are not in the file.
    deleted
        The deletion vector, packed (`pool3.storage.delta_protocol.unpack_mask`).
    """

    path: str
    size: int
    rows: int
    smallest: str | None
    largest: str | None
    partition: tuple[tuple[str, str | None], ...] = ()
    deleted: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TableFile:
        """Return the file that `as_dict` described."""
        pairs = tuple((name, value) for name, value in fields.get("partition", ()))
        return cls(**{**fields, "partition": pairs})


def open_table(uri: str, version: int | None = None) -> DeltaTable | None:
    """Return the Delta table at `uri` at a version (default: the newest), None without a table.

    Raises
    ------
    UsageError
        The table has features that cannot be read.
    StorageError
        The table cannot be fetched.
    """
    if not is_table_location(uri) and not is_directory(join(uri, "_delta_log")):
        return None
    try:
        return DeltaTable(table_location(uri), version=version)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        reason = str(error).split("\n", 1)[0].removeprefix("Kernel error: ")
        refusal = unsupported_protocol(uri, reason)
        if refusal is not None:
            raise refusal from error
        if exists(uri):
            raise UsageError(
                f"expected the folder of a table, found the file {uri}; name a folder"
            ) from error
        raise StorageError("fetch_failed", f"the table {uri} cannot be read: {reason}") from error


def table_files(table: DeltaTable, uri: str) -> list[TableFile]:
    """Return the files of the opened version, sorted by path.

    Parameters
    ----------
    uri
        Canonical uri of the table.

    Raises
    ------
    UsageError
        The rows of the version do not follow from its files, in a way that is not applied.
    """
    require_supported(table, uri)
    deleted = deleted_rows(table, uri)
    actions = pa.table(table.get_add_actions(flatten=True))
    partitions = _partitions(table, actions, uri)
    files = [
        _file(uri, action, partition, deleted)
        for action, partition in zip(actions.to_pylist(), partitions, strict=True)
    ]
    unmatched = deleted.keys() - {file.path for file in files}
    if unmatched:
        raise UsageError(
            f"expected a file for each deletion vector of {uri}, found none for "
            f"{min(unmatched)}; run REORG TABLE ... APPLY (PURGE)"
        )
    return sorted(files, key=lambda file: file.path)


def _file(
    uri: str,
    action: Mapping[str, Any],
    partition: tuple[tuple[str, str | None], ...],
    deleted: Mapping[str, str],
) -> TableFile:
    path = path_in_table(uri, action["path"])
    mask = deleted.get(path)
    rows = action.get("num_records")
    return TableFile(
        path=path,
        size=action["size_bytes"],
        rows=0 if rows is None else rows - count_deleted(mask),
        smallest=_text(action.get("min.image_id")),
        largest=_text(action.get("max.image_id")),
        partition=partition,
        deleted=mask,
    )


def _text(bound: object) -> str | None:
    return bound if isinstance(bound, str) else None


def _partitions(
    table: DeltaTable, actions: pa.Table, uri: str
) -> list[tuple[tuple[str, str | None], ...]]:
    """Return the partition of each file, with values as text that Arrow casts back."""
    names = table.metadata().partition_columns
    try:
        columns = [actions.column(f"partition.{name}").cast(pa.string()) for name in names]
    except pa.ArrowException as error:
        raise UsageError(
            f"expected partition columns of plain types in {uri}, found others ({error}); write "
            "the rows to a table without partitions"
        ) from error
    values = [column.to_pylist() for column in columns]
    return [
        tuple((name, column[row]) for name, column in zip(names, values, strict=True))
        for row in range(actions.num_rows)
    ]


def require_writable(table: DeltaTable, files: Sequence[TableFile], uri: str) -> None:
    """Raise `UsageError` where a commit of ours could not remove files of a table rightly.

    A remove action of ours names a file by its path alone. Where the file has a deletion vector it
    would remove nothing, and the file's rows would stand twice.
    """
    partitions = table.metadata().partition_columns
    if partitions:
        raise UsageError(
            f"expected a table without partitions to write to, found partitions by "
            f"{', '.join(partitions)} in {uri}; name another table"
        )
    with_vectors = [file for file in files if file.deleted is not None]
    if with_vectors:
        raise UsageError(
            f"expected a table without deletion vectors to write to, found deletionVectors of "
            f"{len(with_vectors)} files in {uri}; run REORG TABLE ... APPLY (PURGE) first"
        )


def commit(
    uri: str,
    *,
    schema: pa.Schema,
    added: Sequence[TableFile],
    removed: Sequence[TableFile],
    read_version: int | None,
    run_id: str,
    custom_metadata: Mapping[str, str],
    data_change: bool = True,
) -> int:
    """Add files to a table and remove others in one commit; returns the new version.

    Parameters
    ----------
    uri
        The table; it is created if it does not exist.
    added, removed
        Files that are stored already, and files of the newest version.
    read_version
        The version that the writer read, None when there was no table.
    run_id
        Recorded as an application transaction, so that the log shows which runs it contains.
    custom_metadata
        Recorded in the commit, for people who read the history.
    data_change
        False if the added files have exactly the rows of the removed ones, so that consumers of the
        table's changes need not read them.

    Raises
    ------
    StorageError
        Another writer changed the table first; this commit did not happen.
    """
    properties = CommitProperties(
        custom_metadata=dict(custom_metadata), app_transactions=[Transaction(f"pool3:{run_id}", 1)]
    )
    delta_schema = Schema.from_arrow(schema)
    now_ms = int(time.time() * 1000)
    adds = [_add_action(file, now_ms, data_change) for file in added]
    removes = [RemoveAction(file.path, data_change, now_ms, file.size, {}) for file in removed]
    table = open_table(uri)
    if table is not None and table.version() != read_version:
        raise _conflict(uri, f"it was at version {read_version} and is at {table.version()}")
    if table is not None:
        require_writable(table, removed, uri)
    try:
        if table is None:
            create_table_with_add_actions(
                table_location(uri),
                delta_schema,
                adds,
                mode="error",
                commit_properties=properties,
            )
        else:
            table.create_write_transaction(
                [*adds, *removes], "append", delta_schema, commit_properties=properties
            )
    except (CommitFailedError, DeltaError) as error:
        raise _conflict(uri, str(error)) from error
    return DeltaTable(table_location(uri)).version()


def _add_action(file: TableFile, now_ms: int, data_change: bool) -> AddAction:
    stats: dict[str, object] = {"numRecords": file.rows}
    if file.smallest is not None:
        stats["minValues"] = {"image_id": file.smallest}
        stats["maxValues"] = {"image_id": file.largest}
        stats["nullCount"] = {"image_id": 0}
    return AddAction(file.path, file.size, {}, now_ms, data_change, json.dumps(stats))


def _conflict(uri: str, reason: str) -> StorageError:
    return StorageError(
        "fetch_failed",
        f"the table {uri} was not changed, since another writer was faster or its log cannot be "
        f"written ({reason}); run the job again",
    )
