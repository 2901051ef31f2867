"""The second pass of build-index: rows dealt to shards, and one shard built by one task."""

from __future__ import annotations

import tempfile
import uuid
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from pool3.features.table import FeatureTable
from pool3.features.vectors import LeftOut, carried_schema, usable_rows
from pool3.index.publication import store_shard
from pool3.index.shards import ShardWriter, shard_seed
from udfs.files import files_of
from udfs.spread import Batches, TaskFunction, summary

_OWN = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("vector", pa.binary(), nullable=False),  # float32, little-endian
    ]
)


def row_schema(table: FeatureTable) -> T.StructType:
    """Return the schema of the rows that travel to the shards: `_OWN` and the carried columns."""
    return from_arrow_schema(pa.schema([*_OWN, *carried_schema(table)]))


def shard_of(image_id: str, n_shards: int) -> int:
    """Return the shard of a picture: the same for every table, machine and run."""
    return zlib.crc32(image_id.encode()) % n_shards


def deal_rows(table: FeatureTable, *, dimension: int, metric: str, n_shards: int) -> TaskFunction:
    """Return the function that reads some files and yields rows of `row_schema`."""
    carried = carried_schema(table).names

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            for rows in usable_rows(
                table,
                file,
                dimension=dimension,
                metric=metric,
                left_out=LeftOut(),
                carried=carried,
            ):
                shards = [shard_of(image_id, n_shards) for image_id in rows.ids.to_pylist()]
                vectors = [row.tobytes() for row in rows.vectors.astype("<f4", copy=False)]
                own = [pa.array(shards, pa.int32()), rows.ids, pa.array(vectors, pa.binary())]
                yield pa.RecordBatch.from_arrays(
                    [*own, *rows.metadata.columns], names=[*_OWN.names, *rows.metadata.schema.names]
                )

    return run


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """What the builder of a shard needs to know besides the reduction."""

    index_uri: str
    n_trees: int
    seed: int
    vectors_dtype: str


def build_shard(settings: ShardSettings, reduction: Any) -> TaskFunction:
    """Return the function that builds and stores the shard whose sorted rows are its partition.

    Parameters
    ----------
    settings
        See `ShardSettings`.
    reduction
        Spark broadcast of a `pool3.index.reduction.Reduction`.
    """

    def run(batches: Batches) -> Batches:
        filled = (batch for batch in batches if batch.num_rows)
        first = next(filled, None)
        if first is None:
            return
        number = first.column("shard")[0].as_py()
        with (
            tempfile.TemporaryDirectory(prefix="pool3-shard-") as folder,
            ShardWriter(
                Path(folder) / "shard",
                reduction=reduction.value,
                n_trees=settings.n_trees,
                seed=shard_seed(settings.seed, number),
                vectors_dtype=settings.vectors_dtype,
            ) as writer,
        ):
            _append(writer, first)
            for batch in filled:
                _append(writer, batch)
            entry = store_shard(
                settings.index_uri, writer.close(), number=number, unique=uuid.uuid4().hex
            )
        yield summary(asdict(entry))

    return run


def _append(writer: ShardWriter, batch: pa.RecordBatch) -> None:
    vectors = np.stack([np.frombuffer(row, "<f4") for row in batch.column("vector").to_pylist()])
    carried = [name for name in batch.schema.names if name not in _OWN.names]
    writer.append(batch.column("image_id").to_pylist(), vectors, batch.select(carried))
