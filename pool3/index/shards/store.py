"""Storing a built shard in its index."""

from __future__ import annotations

from pool3.index.format.entries import METADATA, ShardEntry
from pool3.index.shards.writer import BuiltShard
from pool3.index.snapshots.store import store_file


def store_shard(
    index_uri: str, built: BuiltShard, *, number: int, unique: str, added_in: int = 1
) -> ShardEntry:
    """Store the files of a built shard, and return its manifest entry.

    Parameters
    ----------
    index_uri
        Canonical uri of the index's root.
    built
        What `ShardWriter.close` returned.
    number
        The shard's number, from 0.
    unique
        A name that no other shard and no other attempt uses, such as a UUID.
    added_in
        The snapshot that it is built for.
    """
    files = {}
    for kind, path in built.files.items():
        folder = "metadata" if kind == METADATA else "shards"
        files[kind] = store_file(index_uri, f"{folder}/{unique}/{path.name}", path)
    return ShardEntry(
        number=number,
        rows=built.rows,
        seed=built.seed,
        max_norm=built.max_norm,
        files=files,
        added_in=added_in,
    )
