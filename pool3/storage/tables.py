"""Delta tables: opened at a version, and changed by one commit of add and remove actions.

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

from pool3.errors import StorageError


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFile:
    """One Parquet file of a table.

    `path` is relative to the table, `size` is in bytes; `smallest` and `largest` are the bounds of
    the column `image_id`, None if the log does not have them.
    """

    path: str
    size: int
    rows: int
    smallest: str | None
    largest: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TableFile:
        """Return the file that `as_dict` described."""
        return cls(**fields)


def open_table(uri: str, version: int | None = None) -> DeltaTable | None:
    """Return the Delta table at `uri` at a version (default: the newest), None without a table."""
    try:
        return DeltaTable(uri, version=version)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        raise StorageError("fetch_failed", f"the table {uri} cannot be read: {reason}") from error


def table_files(table: DeltaTable) -> list[TableFile]:
    """Return the files of the opened version, sorted by path."""
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    files = [
        TableFile(
            path=action["path"],
            size=action["size_bytes"],
            rows=action["num_records"],
            smallest=action.get("min.image_id"),
            largest=action.get("max.image_id"),
        )
        for action in actions
    ]
    return sorted(files, key=lambda file: file.path)


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
    try:
        if table is None:
            create_table_with_add_actions(
                uri, delta_schema, adds, mode="error", commit_properties=properties
            )
        else:
            table.create_write_transaction(
                [*adds, *removes], "append", delta_schema, commit_properties=properties
            )
    except (CommitFailedError, DeltaError) as error:
        raise _conflict(uri, str(error)) from error
    return DeltaTable(uri).version()


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
