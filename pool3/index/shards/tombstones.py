"""Rows of a shard that no search may find any more, since the table no longer holds them so.

A shard is immutable; which of its rows are dead is a small file beside it, a new one for each
snapshot that adds to them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pool3 import storage
from pool3.errors import InvalidIndex
from pool3.index.format.entries import TOMBSTONES, ShardEntry
from pool3.index.format.npy import read_array
from pool3.index.snapshots.store import store_bytes

DeletedRows = npt.NDArray[np.uint32]


def deleted_rows(index_uri: str, entry: ShardEntry) -> DeletedRows:
    """Return the dead rows of a shard, uint32, ascending.

    Raises
    ------
    InvalidIndex, StorageError
        The file is missing, damaged, or is not what the manifest states.
    """
    if TOMBSTONES not in entry.files:
        return np.zeros(0, dtype=np.uint32)
    file = entry.files[TOMBSTONES]
    uri = storage.join(index_uri, file.path)
    data = storage.verified_bytes(uri, sha256=file.sha256, size=file.bytes)
    rows = read_array(io.BytesIO(data), uri)
    if rows.dtype != np.uint32 or rows.shape != (entry.dead,):
        raise InvalidIndex(
            f"{uri} must hold {entry.dead} numbers of uint32, as the manifest states; found "
            f"{rows.dtype} of shape {rows.shape}"
        )
    return rows


def live_mask(index_uri: str, entry: ShardEntry) -> npt.NDArray[np.bool_]:
    """Return which rows of a shard a search may find: bool, (rows,)."""
    live = np.ones(entry.rows, dtype=np.bool_)
    live[deleted_rows(index_uri, entry)] = False
    return live


def add_tombstones(
    index_uri: str,
    entry: ShardEntry,
    rows: Sequence[int] | DeletedRows,
    *,
    snapshot: int,
    unique: str,
) -> ShardEntry:
    """Store a shard's tombstones with more rows among them; returns its new entry.

    Parameters
    ----------
    rows
        Rows that die now; one that was dead already changes nothing.
    snapshot
        The number of the snapshot-to-be.
    unique
        A name that no other attempt uses.
    """
    dead = np.union1d(deleted_rows(index_uri, entry), np.asarray(rows, dtype=np.uint32))
    if len(dead) == entry.dead:
        return entry
    buffer = io.BytesIO()
    np.save(buffer, dead.astype(np.uint32), allow_pickle=False)
    path = f"snapshots/{snapshot:020d}/tombstones-{entry.number}-{unique}.npy"
    file = store_bytes(index_uri, path, buffer.getvalue())
    return replace(entry, dead=len(dead), files={**entry.files, TOMBSTONES: file})


def add_tombstones_all(
    index_uri: str,
    entries: Sequence[ShardEntry],
    dead: Mapping[int, DeletedRows],
    *,
    snapshot: int,
    unique: str,
) -> list[ShardEntry]:
    """Bury rows of several shards, given by shard number; a shard without a live row is dropped."""
    buried = [
        add_tombstones(index_uri, entry, dead[entry.number], snapshot=snapshot, unique=unique)
        if entry.number in dead
        else entry
        for entry in entries
    ]
    return [entry for entry in buried if entry.live]


def renumbered(entries: Sequence[ShardEntry]) -> tuple[ShardEntry, ...]:
    """Return shards with their positions as their numbers, as a manifest wants them."""
    return tuple(replace(entry, number=number) for number, entry in enumerate(entries))
