"""Shards of an index as inputs of tasks, one JSON row each, and their rows as Arrow batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from pool3 import storage
from pool3.index.fields import Fields
from pool3.index.manifest import IDS, VECTORS, ShardEntry
from pool3.index.npy import read_array
from pool3.index.shard_reader import ArrowRows
from pool3.index.tombstones import live_mask
from udfs.spread import Batches, TaskFunction, no_rows, spread

SHARD_SCHEMA = T.StructType([T.StructField("entry", T.StringType(), nullable=False)])

#: A live row of an index: where it stands, and the digest of its vector.
INDEXED_SCHEMA = T.StructType(
    [
        T.StructField("image_id", T.StringType(), nullable=False),
        T.StructField("shard", T.IntegerType(), nullable=False),
        T.StructField("row", T.IntegerType(), nullable=False),
        T.StructField("digest", T.LongType(), nullable=False),
    ]
)


def shard_frame(spark: SparkSession, entries: Sequence[ShardEntry]) -> DataFrame:
    """Return the shards that have rows, a task each."""
    texts = [json.dumps(asdict(entry)) for entry in entries if entry.rows]
    return spread(spark, pa.table({"entry": texts}), SHARD_SCHEMA, len(texts))


def shards_of(batches: Batches) -> Iterator[ShardEntry]:
    """Yield the shards that a task was given."""
    for batch in batches:
        for text in batch.column("entry").to_pylist():
            yield ShardEntry.read(Fields(json.loads(text), "a task's shard"))


def open_rows(index_uri: str, entry: ShardEntry, kind: str) -> ArrowRows:
    """Open one of a shard's Arrow files, checked against its entry."""
    file = entry.files[kind]
    uri = storage.join(index_uri, file.path)
    with storage.verified_file(uri, sha256=file.sha256, size=file.bytes) as held:
        return ArrowRows(held.path, uri)


def open_vectors(index_uri: str, entry: ShardEntry) -> npt.NDArray[Any]:
    """Map the stored vectors of a shard, (rows, d)."""
    file = entry.files[VECTORS]
    uri = storage.join(index_uri, file.path)
    with storage.verified_file(uri, sha256=file.sha256, size=file.bytes) as held:
        return read_array(held.path, uri, mmap_mode="r")


def list_indexed(index_uri: str, among: pa.ChunkedArray | None) -> TaskFunction:
    """Return the function that yields the live rows of some shards, as `INDEXED_SCHEMA` has it."""
    wanted = None if among is None else among.combine_chunks()

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            live = live_mask(index_uri, entry)
            start = 0
            for batch in open_rows(index_uri, entry, IDS).table().to_batches():
                ids, rows = batch.column("image_id"), np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                kept = live[rows]
                if wanted is not None:
                    kept &= pc.is_in(ids, value_set=wanted).to_numpy(zero_copy_only=False)
                digests = batch.column("digest").to_numpy().view(np.int64)
                yield pa.RecordBatch.from_arrays(
                    [
                        ids.filter(pa.array(kept)),
                        pa.array(np.full(int(kept.sum()), entry.number, dtype=np.int32)),
                        pa.array(rows[kept].astype(np.int32)),
                        pa.array(digests[kept]),
                    ],
                    names=INDEXED_SCHEMA.names,
                )

    return run


def indexed_rows(
    spark: SparkSession,
    index_uri: str,
    entries: Sequence[ShardEntry],
    *,
    among: pa.ChunkedArray | None = None,
) -> DataFrame:
    """Return the live rows of shards, as `INDEXED_SCHEMA` has them.

    Parameters
    ----------
    spark
    index_uri
        Canonical uri of the index's root.
    entries
        The shards.
    among
        string: the ids of interest, which every task is sent; all when None.
    """
    if not any(entry.rows for entry in entries):
        return no_rows(spark, INDEXED_SCHEMA)
    return shard_frame(spark, entries).mapInArrow(list_indexed(index_uri, among), INDEXED_SCHEMA)
