"""Tombstones of a shard: which of its rows are deleted, so that no search may return them.

A shard is immutable. Its tombstones are a small file beside it; each snapshot that deletes more of
its rows writes a new one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from pool3 import storage
from pool3.errors import InvalidIndex
from pool3.index.format.entries import TOMBSTONES, ShardEntry
from pool3.index.format.npy import read_array
from pool3.index.snapshots.store import store_bytes

#: Deleted rows of one shard, ascending.
DeletedRows = npt.NDArray[np.uint32]


def read_tombstones(source: Path | IO[bytes], uri: str, entry: ShardEntry) -> DeletedRows:
    """Read a file of tombstones, and check it against the entry of its shard.

    Parameters
    ----------
    source
        A local path, or an open file.
    uri
        Its uri, for errors.
    entry
        Of the shard.

    Raises
    ------
    InvalidIndex
        When it does not hold as many ascending rows of the shard as the entry states.
    """
    rows = read_array(source, uri)
    if rows.dtype != np.uint32 or rows.shape != (entry.dead,):
        raise InvalidIndex(
            f"{uri} must hold {entry.dead} numbers of uint32, as the manifest states; found "
            f"{rows.dtype} of shape {rows.shape}"
        )
    if (np.diff(rows.astype(np.int64)) <= 0).any() or (rows >= entry.rows).any():
        raise InvalidIndex(
            f"{uri} must hold ascending numbers below {entry.rows}, the rows of its shard; found "
            f"others among {len(rows)}: restore the file or build the index again"
        )
    return rows


def mask_without(n_rows: int, deleted: DeletedRows) -> npt.NDArray[np.bool_]:
    """Return a mask of `n_rows` rows, bool, true for those that are not deleted."""
    live = np.ones(n_rows, dtype=np.bool_)
    live[deleted] = False
    return live


def deleted_rows(index_uri: str, entry: ShardEntry) -> DeletedRows:
    """Return the deleted rows of a shard, uint32, ascending.

    Raises
    ------
    InvalidIndex, StorageError
        When the file is missing, damaged, or is not what the manifest states.
    """
    if TOMBSTONES not in entry.files:
        return np.zeros(0, dtype=np.uint32)
    file = entry.files[TOMBSTONES]
    uri = storage.join(index_uri, file.path)
    data = storage.verified_bytes(uri, sha256=file.sha256, size=file.bytes)
    return read_tombstones(io.BytesIO(data), uri, entry)


def live_mask(index_uri: str, entry: ShardEntry) -> npt.NDArray[np.bool_]:
    """Return which rows of a shard a search may return: bool, (rows,)."""
    return mask_without(entry.rows, deleted_rows(index_uri, entry))


def add_tombstones(
    index_uri: str,
    entry: ShardEntry,
    rows: Sequence[int] | DeletedRows,
    *,
    snapshot: int,
    unique: str,
) -> ShardEntry:
    """Store the tombstones of a shard with more rows among them; returns the shard's new entry.

    Parameters
    ----------
    rows
        Rows to delete; those that are deleted already may be among them.
    snapshot
        The number of the next snapshot.
    unique
        A name that no other attempt uses.
    """
    deleted = np.union1d(deleted_rows(index_uri, entry), np.asarray(rows, dtype=np.uint32))
    if len(deleted) == entry.dead:
        return entry
    buffer = io.BytesIO()
    np.save(buffer, deleted.astype(np.uint32), allow_pickle=False)
    path = f"snapshots/{snapshot:020d}/tombstones-{entry.number}-{unique}.npy"
    file = store_bytes(index_uri, path, buffer.getvalue())
    return replace(entry, dead=len(deleted), files={**entry.files, TOMBSTONES: file})


def add_tombstones_all(
    index_uri: str,
    entries: Sequence[ShardEntry],
    deleted: Mapping[int, DeletedRows],
    *,
    snapshot: int,
    unique: str,
) -> list[ShardEntry]:
    """Add tombstones to several shards, by shard number; a shard without live rows is left out."""
    with_tombstones = [
        add_tombstones(index_uri, entry, deleted[entry.number], snapshot=snapshot, unique=unique)
        if entry.number in deleted
        else entry
        for entry in entries
    ]
    return [entry for entry in with_tombstones if entry.live]


def renumbered(entries: Sequence[ShardEntry]) -> tuple[ShardEntry, ...]:
    """Return shards with their positions as their numbers, as a manifest requires."""
    return tuple(replace(entry, number=number) for number, entry in enumerate(entries))
