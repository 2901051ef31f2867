"""Finds objects below a feature table that are no longer needed, so that they can be deleted.

Readers of an older version need its files, so these stay for some time. So do files that no version
names, since a run that is still writing may have stored them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote

from pool3 import storage
from pool3.errors import NotFound, StorageError
from pool3.features.table import FeatureTable
from pool3.inputs.table_files import path_below
from pool3.storage import StoredObject
from pool3.storage.tables import open_table

_VERSION = re.compile(r"(\d{20})\.")
_LEASE = re.compile(r"_pool3/leases/(\d{20})\.")


def unnamed_files(table: FeatureTable) -> list[StoredObject]:
    """Return the data files below a table that are not in its version, sorted by uri.

    They belong to older versions or to killed runs, or are incomplete local files.
    """
    named = {table.file_uri(file) for file in table.files}
    return [
        entry
        for entry in _below(table.uri)
        if entry.uri not in named and _is_data(path_below(table.uri, entry))
    ]


def _is_data(path: str) -> bool:
    *folders, name = path.split("/")
    if any(folder.startswith(("_", ".")) for folder in folders):
        return False
    incomplete = name.startswith(".pool3-")
    return incomplete or (name.endswith(".parquet") and not name.startswith(("_", ".")))


def outdated(table: FeatureTable, unnamed: Sequence[StoredObject], cutoff: datetime) -> list[str]:
    """Return the uris of the files that no version since `cutoff` needs.

    Parameters
    ----------
    table
        The newest version.
    unnamed
        From `unnamed_files`.
    cutoff
        UTC. A file stays if it was written after the cutoff, or removed by a commit after the
        cutoff, since it then belonged to a version that was current at that time.
    """
    removed = set(_removed_since(table.uri, cutoff))
    return [
        entry.uri
        for entry in unnamed
        if entry.modified_at < cutoff and path_below(table.uri, entry) not in removed
    ]


def _removed_since(table_uri: str, cutoff: datetime) -> Iterator[str]:
    for entry in _below(storage.join(table_uri, "_delta_log")):
        if not entry.uri.endswith(".json") or entry.modified_at < cutoff:
            continue
        for line in storage.fetch(entry.uri).splitlines():
            action = json.loads(line).get("remove") if line.strip() else None
            if action is not None:
                yield from {action["path"], unquote(action["path"])}


def run_leftovers(table_uri: str, cutoff: datetime, *, lease_number: int) -> list[StoredObject]:
    """Return the objects below ``_pool3`` that earlier runs needed only while they ran.

    Parameters
    ----------
    cutoff
        UTC; younger objects stay.
    lease_number
        Number of the caller's lease; older leases and their heartbeats are included.
    """
    leftovers = []
    for entry in _below(storage.join(table_uri, "_pool3")):
        path = path_below(table_uri, entry)
        lease = _LEASE.match(path)
        obsolete = path.startswith("_pool3/runs/") or (lease and int(lease[1]) < lease_number)
        if obsolete and entry.modified_at < cutoff:
            leftovers.append(entry)
    return leftovers


def checkpoint(table_uri: str) -> int:
    """Write a checkpoint of the newest version, so that readers need no older log.

    Returns
    -------
    int
        The version.
    """
    table = open_table(table_uri)
    if table is None:
        raise NotFound(f"expected a Delta table at {table_uri}, found none; check the uri")
    table.create_checkpoint()
    version = table.version()
    start = f"{version:020d}.checkpoint"
    log = _below(storage.join(table_uri, "_delta_log"))
    if not any(storage.name_of(entry.uri).startswith(start) for entry in log):
        raise StorageError(
            "fetch_failed",
            f"expected a checkpoint of version {version} of {table_uri}, found none; run the job "
            "again",
        )
    return version


def log_before(table_uri: str, version: int) -> list[str]:
    """Return the uris of the log files that a reader of a version with a checkpoint does not need.

    Their statistics contain ids, the bounds of each file.
    """
    unneeded = []
    for entry in _below(storage.join(table_uri, "_delta_log")):
        name = storage.name_of(entry.uri)
        number = _VERSION.match(name)
        newer = number is not None and int(number[1]) >= version
        if not newer and name != "_last_checkpoint":
            unneeded.append(entry.uri)
    return unneeded


def keep_since(keep_hours: float, now: datetime | None = None) -> datetime:
    """Return the time before which nothing has to be retained; with 0 hours, the far future."""
    if keep_hours == 0:
        return datetime.max.replace(tzinfo=UTC)
    seconds = (now or datetime.now(UTC)).timestamp() - 3600 * keep_hours
    return datetime.fromtimestamp(max(0.0, seconds), UTC)


def _below(uri: str) -> list[StoredObject]:
    try:
        return sorted(storage.list_objects(uri), key=lambda entry: entry.uri)
    except NotFound:
        return []
