"""Shards of an index as inputs of tasks, one JSON row each, and their rows as Arrow batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from pool3.index.format.manifest import IDS
from pool3.index.shards.stored import open_rows
from pool3.index.shards.tombstones import live_mask
from udfs.tasks import Batches, TaskFunction, shards_of

#: A live row of an index: where it stands, and the digest of its vector.
INDEXED_SCHEMA = T.StructType(
    [
        T.StructField("image_id", T.StringType(), nullable=False),
        T.StructField("shard", T.IntegerType(), nullable=False),
        T.StructField("row", T.IntegerType(), nullable=False),
        T.StructField("digest", T.LongType(), nullable=False),
    ]
)


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
