"""What lies below a feature table and counts no more: found by listing, and deleted for good.

Readers of an older version need the files that it names, so those stay for a time; so do parts that
no version names, which may be of a run that is still writing.
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
from pool3.storage import StoredObject
from pool3.storage.tables import TableFile, open_table

_VERSION = re.compile(r"(\d{20})\.")
_LEASE = re.compile(r"_pool3/leases/(\d{20})\.")


def unnamed_files(table: FeatureTable) -> list[StoredObject]:
    """Return the data files below a table that its version does not name, sorted by uri.

    They are of older versions, of killed runs, or local files that a killed writer left half done.
    """
    named = {table.file_uri(file) for file in table.files}
    return [
        found
        for found in _below(table.uri)
        if found.uri not in named and _is_data(_path(table.uri, found))
    ]


def _is_data(path: str) -> bool:
    *folders, name = path.split("/")
    if any(folder.startswith(("_", ".")) for folder in folders):
        return False
    half_done = name.startswith(".pool3-")
    return half_done or (name.endswith(".parquet") and not name.startswith(("_", ".")))


def as_files(table: FeatureTable, found: Sequence[StoredObject]) -> list[TableFile]:
    """Return objects below a table as files of it, of which nothing but the size is known."""
    return [
        TableFile(
            path=_path(table.uri, object_),
            size=object_.size,
            rows=0,
            smallest=None,
            largest=None,
        )
        for object_ in found
    ]


def outdated(table: FeatureTable, unnamed: Sequence[StoredObject], cutoff: datetime) -> list[str]:
    """Return the uris of what no version since `cutoff` needs.

    Parameters
    ----------
    table
        The newest version.
    unnamed
        From `unnamed_files`.
    cutoff
        UTC. A file stays when it was written since, or withdrawn by a commit since: then it
        belonged to a version that was current at that time.
    """
    withdrawn = set(_withdrawn_since(table.uri, cutoff))
    return [
        found.uri
        for found in unnamed
        if found.modified_at < cutoff and _path(table.uri, found) not in withdrawn
    ]


def _withdrawn_since(table_uri: str, cutoff: datetime) -> Iterator[str]:
    for found in _below(storage.join(table_uri, "_delta_log")):
        if not found.uri.endswith(".json") or found.modified_at < cutoff:
            continue
        for line in storage.fetch(found.uri).splitlines():
            action = json.loads(line).get("remove") if line.strip() else None
            if action is not None:
                yield from {action["path"], unquote(action["path"])}


def run_leavings(table_uri: str, cutoff: datetime, *, lease_number: int) -> list[StoredObject]:
    """Return what runs before this one left below ``_pool3`` and needed only while they ran.

    Parameters
    ----------
    cutoff
        UTC; what is younger stays.
    lease_number
        Of the lease that the caller holds; older leases and their heartbeats may go.
    """
    found = []
    for object_ in _below(storage.join(table_uri, "_pool3")):
        path = _path(table_uri, object_)
        lease = _LEASE.match(path)
        over = path.startswith("_pool3/runs/") or (lease and int(lease[1]) < lease_number)
        if over and object_.modified_at < cutoff:
            found.append(object_)
    return found


def checkpoint(table_uri: str) -> int:
    """Write a checkpoint of the newest version, so that readers need no older log; returns it."""
    table = open_table(table_uri)
    if table is None:
        raise NotFound(f"there is no table {table_uri}")
    table.create_checkpoint()
    version = table.version()
    start = f"{version:020d}.checkpoint"
    log = _below(storage.join(table_uri, "_delta_log"))
    if not any(storage.name_of(found.uri).startswith(start) for found in log):
        raise StorageError(
            "fetch_failed",
            f"expected a checkpoint of version {version} of {table_uri}, found none; run the job "
            "again",
        )
    return version


def log_before(table_uri: str, version: int) -> list[str]:
    """Return the uris of the log that a reader of `version` with its checkpoint does not need.

    The statistics in it hold ids: the bounds of each file.
    """
    needless = []
    for found in _below(storage.join(table_uri, "_delta_log")):
        name = storage.name_of(found.uri)
        number = _VERSION.match(name)
        newer = number is not None and int(number[1]) >= version
        if not newer and name != "_last_checkpoint":
            needless.append(found.uri)
    return needless


def keep_since(keep_hours: float, now: datetime | None = None) -> datetime:
    """Return the time before which nothing has to be kept; with 0 hours, that is any time."""
    if keep_hours == 0:
        return datetime.max.replace(tzinfo=UTC)
    seconds = (now or datetime.now(UTC)).timestamp() - 3600 * keep_hours
    return datetime.fromtimestamp(max(0.0, seconds), UTC)


def _below(uri: str) -> list[StoredObject]:
    try:
        return sorted(storage.list_objects(uri), key=lambda found: found.uri)
    except NotFound:
        return []


def _path(table_uri: str, found: StoredObject) -> str:
    return found.uri.removeprefix(table_uri).lstrip("/")
