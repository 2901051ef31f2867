"""Copies rows of several shards into a new one: stored vectors, digests and metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.index.shards.metadata import unified_schema
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.selection import Mask
from pool3.index.shards.writer import ShardWriter
from pool3.vectors.stored import digests as digests_of

_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class ChosenRows:
    """Rows that were chosen from several shards.

    Attributes
    ----------
    ids
        Arrow array of strings: their n image_ids.
    shards
        int64, (n,): position of each row's shard among the shards.
    rows
        int64, (n,): position of the row in its shard.
    """

    ids: pa.Array
    shards: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def of(cls, shards: Sequence[ShardReader], masks: Sequence[Mask | None]) -> ChosenRows:
        """Choose the rows that pass each shard's mask, all rows where it is None."""
        ids: list[pa.Array] = []
        rows = [np.zeros(0, dtype=np.int64)]
        for shard, mask in zip(shards, masks, strict=True):
            here = np.arange(shard.entry.rows) if mask is None else np.flatnonzero(mask)
            column = shard.ids.table().column("image_id").cast(pa.large_string())
            ids += column.take(pa.array(here)).chunks
            rows.append(here)
        return cls(
            pa.chunked_array(ids, pa.large_string()).combine_chunks(),
            np.repeat(np.arange(-1, len(shards)), [len(here) for here in rows]),
            np.concatenate(rows),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: npt.NDArray[np.int64]) -> ChosenRows:
        """Return the rows at some positions, in that order."""
        return ChosenRows(
            self.ids.take(pa.array(positions)), self.shards[positions], self.rows[positions]
        )

    def by_id(self) -> ChosenRows:
        """Return the rows by ascending image_id."""
        # Arrow compares the bytes of strings, which is by code point, the order of a shard.
        return self.take(np.asarray(pc.sort_indices(self.ids), dtype=np.int64))

    def blocks(self) -> Iterator[ChosenRows]:
        """Yield the rows in blocks, in order."""
        for start in range(0, len(self), _BLOCK_ROWS):
            yield self.take(np.arange(start, min(start + _BLOCK_ROWS, len(self))))


def copy_rows(writer: ShardWriter, shards: Sequence[ShardReader], chosen: ChosenRows) -> None:
    """Copy rows, which must be by ascending image_id, from the shards that they were chosen from.

    The metadata has the columns of all shards, null where a row's shard lacks one.
    """
    schema = _metadata_schema(shards)
    for block in chosen.blocks():
        vectors, digests = vectors_of(shards, block)
        metadata = None if schema is None else _metadata_of(shards, block, schema)
        writer.append(block.ids.to_pylist(), vectors, metadata, digests=digests)


def vectors_of(
    shards: Sequence[ShardReader], chosen: ChosenRows
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint64]]:
    """Return the stored vectors of rows, float32, (n, d), and their digests, uint64, (n,)."""
    dimension = shards[0].rows_at(np.zeros(0, dtype=np.int64)).shape[1]
    vectors = np.zeros((len(chosen), dimension), dtype=np.float32)
    digests = np.zeros(len(chosen), dtype=np.uint64)
    for number in np.unique(chosen.shards):
        shard, here = shards[number], np.flatnonzero(chosen.shards == number)
        vectors[here] = shard.rows_at(chosen.rows[here])
        if "digest" in shard.ids.schema.names:
            column = shard.ids.table().column("digest")
            digests[here] = np.asarray(column.take(pa.array(chosen.rows[here])))
        else:
            digests[here] = digests_of(vectors[here])  # format version 1 stored none
    return vectors, digests


def _metadata_schema(shards: Sequence[ShardReader]) -> pa.Schema | None:
    schemas = [shard.metadata.schema for shard in shards if shard.metadata is not None]
    if not schemas:
        return None
    return unified_schema(schemas)


def _metadata_of(
    shards: Sequence[ShardReader], chosen: ChosenRows, schema: pa.Schema
) -> pa.RecordBatch:
    numbers = np.unique(chosen.shards)
    places = [np.flatnonzero(chosen.shards == number) for number in numbers]
    tables = [
        _metadata_at(shards[number], chosen.rows[here], schema)
        for number, here in zip(numbers, places, strict=True)
    ]
    order = pa.array(np.argsort(np.concatenate(places)))
    return pa.concat_tables(tables).take(order).combine_chunks().to_batches()[0]


def _metadata_at(shard: ShardReader, rows: npt.NDArray[np.int64], schema: pa.Schema) -> pa.Table:
    """Return metadata of rows with the columns of `schema`, null where the shard has none."""
    table = pa.table({}) if shard.metadata is None else shard.metadata.table()
    columns = [
        table.column(name).take(pa.array(rows)).cast(kind, safe=False)
        if name in table.schema.names
        else pa.nulls(len(rows), kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return pa.table(columns, schema=schema)
