"""Lists the live rows of an index: ids, places and digests, without vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from pool3.index.format.entries import IDS, ShardEntry
from pool3.index.shards.stored import open_rows
from pool3.index.shards.tombstones import live_mask
from udfs.tasks import Batches, TaskFunction, shards_of

#: A live row of an index: its shard, its row there, and the digest of its vector.
INDEXED_SCHEMA = T.StructType(
    [
        T.StructField("image_id", T.StringType(), nullable=False),
        T.StructField("shard", T.IntegerType(), nullable=False),
        T.StructField("row", T.IntegerType(), nullable=False),
        T.StructField("digest", T.LongType(), nullable=False),
    ]
)


def list_indexed(index_uri: str, among: pa.ChunkedArray | None) -> TaskFunction:
    """Return the function that yields the live rows of shards, as rows of `INDEXED_SCHEMA`.

    Parameters
    ----------
    index_uri
        The index.
    among
        The ids to list; all of them when None.
    """
    wanted = None if among is None else among.combine_chunks()

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            yield from live_rows(index_uri, entry, wanted)

    return run


def live_rows(index_uri: str, entry: ShardEntry, wanted: pa.Array | None) -> Batches:
    """Yield the live rows of one shard, all of them or those with the ids in `wanted`."""
    live = live_mask(index_uri, entry)
    start = 0
    for batch in open_rows(index_uri, entry, IDS).table().to_batches():
        selected = live[start : start + batch.num_rows].copy()
        if wanted is not None:
            ids = batch.column("image_id")
            selected &= pc.is_in(ids, value_set=wanted).to_numpy(zero_copy_only=False)
        yield _indexed_batch(batch, entry.number, start, selected)
        start += batch.num_rows


def _indexed_batch(
    batch: pa.RecordBatch, number: int, start: int, selected: npt.NDArray[np.bool_]
) -> pa.RecordBatch:
    """Return the selected rows of a batch, the first of which is row `start` of its shard."""
    rows = np.flatnonzero(selected)
    digests = batch.column("digest").to_numpy().view(np.int64)
    columns = [
        batch.column("image_id").take(pa.array(rows)),
        pa.array(np.full(len(rows), number, dtype=np.int32)),
        pa.array((start + rows).astype(np.int32)),
        pa.array(digests[rows]),
    ]
    return pa.RecordBatch.from_arrays(columns, names=INDEXED_SCHEMA.names)
