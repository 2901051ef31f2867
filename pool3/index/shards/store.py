"""A built shard stored in its index."""

from __future__ import annotations

from pool3 import storage
from pool3.index.format.entries import METADATA, FileEntry, ShardEntry
from pool3.index.shards.writer import BuiltShard


def store_shard(
    index_uri: str, built: BuiltShard, *, number: int, unique: str, added_in: int = 1
) -> ShardEntry:
    """Store a built shard's files, and return its manifest entry.

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
    for kind, file in built.files.items():
        folder = "metadata" if kind == METADATA else "shards"
        path = f"{folder}/{unique}/{file.path.name}"
        storage.put_file(storage.join(index_uri, path), file.path)
        files[kind] = FileEntry(path=path, bytes=file.bytes, sha256=file.sha256)
    return ShardEntry(
        number=number,
        rows=built.rows,
        seed=built.seed,
        max_norm=built.max_norm,
        files=files,
        added_in=added_in,
    )
