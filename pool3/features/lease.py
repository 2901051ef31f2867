"""One writer at a time: a run holds a lease on its table and renews it with a heartbeat.

Leases are numbered files below the table, created only if absent, so that of two runs that start at
the same time one wins. A run releases its lease when it ends. The lease of a run that died expires
`STALE_S` after its last heartbeat, or immediately if the process ran on this host and is gone.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pool3 import storage
from pool3.errors import AlreadyExists, Pool3Error, StorageError

log = logging.getLogger(__name__)

HEARTBEAT_S = 30.0
STALE_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The writer of a table: run, job, host and process; `number` counts the table's leases."""

    number: int
    run_id: str
    job: str
    host: str
    pid: int
    process_started: str

    def __str__(self) -> str:
        return f"run {self.run_id} of {self.job} (process {self.pid} on {self.host})"


def _folder(table_uri: str) -> str:
    return storage.join(table_uri, "_pool3", "leases")


def _place(table_uri: str, number: int, what: str) -> str:
    return storage.join(_folder(table_uri), f"{number:020d}.{what}")


def active_lease(table_uri: str) -> Lease | None:
    """Return the lease in force on a table, None when no run writes to it."""
    newest = _newest(table_uri)
    return newest if newest is not None and _in_force(table_uri, newest) else None


def _newest(table_uri: str) -> Lease | None:
    folder = _folder(table_uri)
    if not storage.is_directory(folder):
        return None
    names = [storage.name_of(entry.uri) for entry in storage.list_objects(folder)]
    newest = max((name for name in names if name.endswith(".json")), default=None)
    if newest is None:
        return None
    return Lease(**json.loads(storage.fetch(storage.join(folder, newest))))


def _in_force(table_uri: str, lease: Lease) -> bool:
    if storage.exists(_place(table_uri, lease.number, "released")):
        return False
    if lease.host == socket.gethostname() and _process_started(lease.pid) != lease.process_started:
        return False
    return time.time() - _last_heartbeat(table_uri, lease.number) < STALE_S


def _last_heartbeat(table_uri: str, number: int) -> float:
    try:
        return float(storage.fetch(_place(table_uri, number, "heartbeat")))
    except StorageError:
        return time.time()  # the run has just started


def _process_started(pid: int) -> str:
    """Return the start of a process on this host, since process ids are reused; empty if gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{boot}:{after_name[19]}"


@contextmanager
def leased(table_uri: str, *, run_id: str, job: str) -> Iterator[Lease]:
    """Hold the lease of a table during the block.

    Raises
    ------
    Pool3Error
        Another run holds the lease; nothing was changed.
    """
    newest = _newest(table_uri)
    if newest is not None and _in_force(table_uri, newest):
        raise _taken(table_uri, newest)
    lease = Lease(
        number=newest.number + 1 if newest is not None else 1,
        run_id=run_id,
        job=job,
        host=socket.gethostname(),
        pid=os.getpid(),
        process_started=_process_started(os.getpid()),
    )
    place = _place(table_uri, lease.number, "json")
    try:
        storage.put_if_absent(place, json.dumps(asdict(lease)).encode())
    except AlreadyExists as error:
        raise _taken(table_uri, Lease(**json.loads(storage.fetch(place)))) from error
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(table_uri, lease.number, ended), daemon=True)
    heart.start()
    try:
        yield lease
    finally:
        ended.set()
        heart.join()
        storage.put(_place(table_uri, lease.number, "released"), b"")


def _beat(table_uri: str, number: int, ended: threading.Event) -> None:
    while True:
        try:
            storage.put(_place(table_uri, number, "heartbeat"), str(time.time()).encode())
        except StorageError as error:
            log.warning("the heartbeat of the lease could not be written: %s", error)
        if ended.wait(HEARTBEAT_S):
            return


def _taken(table_uri: str, owner: Lease) -> Pool3Error:
    return Pool3Error(
        f"expected no other writer of {table_uri}, found that {owner} is writing to it; wait for "
        f"it to end (if it died on another host, its lease expires {STALE_S:.0f} s after its last "
        "heartbeat)"
    )
