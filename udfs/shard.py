"""Shards built: rows dealt to them, of a table or of other shards, and one shard by one task."""

from __future__ import annotations

import tempfile
import uuid
import zlib
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from pool3.features.carried import nameless
from pool3.features.table import FeatureTable
from pool3.features.vectors import LeftOut, usable_rows
from pool3.index.fields import Fields
from pool3.index.manifest import ShardEntry
from pool3.index.publication import store_shard
from pool3.index.reduction import Reduction
from pool3.index.shards import ShardWriter, shard_seed
from udfs.files import files_of
from udfs.spread import Batches, TaskFunction, gather, summary

# Underscores, so that no column that a table carries collides.
_OWN = pa.schema(
    [
        pa.field("_shard", pa.int32(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("_vector", pa.binary(), nullable=False),  # float32, little-endian
        pa.field("_digest", pa.int64()),  # null: of the vector itself
    ]
)


def row_schema(carried: pa.Schema) -> T.StructType:
    """Return the schema of the rows that travel to the shards: `_OWN` and the carried columns."""
    return from_arrow_schema(pa.schema([*_OWN, *nameless(carried)]))


def shard_of(image_id: str, n_shards: int) -> int:
    """Return the shard of a picture: the same for every table, machine and run."""
    return zlib.crc32(image_id.encode()) % n_shards


def dealt_rows(
    ids: pa.Array,
    vectors: npt.NDArray[np.float32],
    metadata: pa.RecordBatch,
    n_shards: int | None,
    *,
    number: int = 0,
    digests: pa.Array | None = None,
) -> pa.RecordBatch:
    """Return rows as `row_schema` has them; all in the shard `number` where none are dealt."""
    if n_shards is None:
        shards = [number] * len(ids)
    else:
        shards = [shard_of(image_id, n_shards) for image_id in ids.to_pylist()]
    stored = [row.tobytes() for row in vectors.astype("<f4", copy=False)]
    own = [
        pa.array(shards, pa.int32()),
        ids,
        pa.array(stored, pa.binary()),
        pa.nulls(len(ids), pa.int64()) if digests is None else digests,
    ]
    return pa.RecordBatch.from_arrays(
        [*own, *metadata.columns], names=[*_OWN.names, *nameless(metadata.schema).names]
    )


def deal_rows(
    table: FeatureTable, *, carried: pa.Schema, dimension: int, metric: str, n_shards: int
) -> TaskFunction:
    """Return the function that reads some files and yields rows of `row_schema`."""

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
                yield dealt_rows(rows.ids, rows.vectors, rows.metadata, n_shards)

    return run


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """What the builder of a shard needs to know besides the reduction.

    `carried` are the columns of metadata, and `first_number` is the manifest's number of the first
    shard that is built. `unseen` says that the reduction was fitted without these rows, and that it
    is to be told what it keeps of them.
    """

    index_uri: str
    n_trees: int
    seed: int
    vectors_dtype: str
    added_in: int
    carried: pa.Schema
    first_number: int = 0
    unseen: bool = False


@dataclass(frozen=True, kw_only=True)
class Built:
    """Shards that were stored, by number, and what the reduction keeps of rows unseen before.

    `kept` and `whole` are sums over rows (`Reduction.variance`), 0 where these were seen.
    """

    shards: dict[int, ShardEntry]
    kept: float
    whole: float


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
        number = settings.first_number + first.column("_shard")[0].as_py()
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
            kept = whole = 0.0
            for batch in chain([first], filled):
                vectors = _append(writer, batch, settings.carried)
                if settings.unseen:
                    more = reduction.value.variance(vectors)
                    kept, whole = kept + more[0], whole + more[1]
            entry = store_shard(
                settings.index_uri,
                writer.close(),
                number=number,
                unique=uuid.uuid4().hex,
                added_in=settings.added_in,
            )
        yield summary({"entry": asdict(entry), "kept": kept, "whole": whole})

    return run


def _append(
    writer: ShardWriter, batch: pa.RecordBatch, carried: pa.Schema
) -> npt.NDArray[np.float32]:
    vectors = np.stack([np.frombuffer(row, "<f4") for row in batch.column("_vector").to_pylist()])
    metadata = None
    if carried.names:
        columns = [batch.column(name) for name in nameless(carried).names]
        metadata = pa.RecordBatch.from_arrays(columns, schema=carried)
    told = batch.column("_digest")
    writer.append(
        batch.column("image_id").to_pylist(),
        vectors,
        metadata,
        digests=None if told.null_count else told.to_numpy().view(np.uint64),
    )
    return vectors


def built_shards(
    rows: DataFrame, settings: ShardSettings, reduction: Reduction, n_shards: int
) -> Built:
    """Build and store shards of rows of `row_schema`; those that no row falls to are left out.

    The same rows give the same files, however they come.
    """
    function = build_shard(settings, rows.sparkSession.sparkContext.broadcast(reduction))
    frame = rows.repartitionById(n_shards, "_shard").sortWithinPartitions("image_id")
    tasks = gather(frame, function, label="building shards")
    entries = [ShardEntry.read(Fields(task["entry"], "the summary of a shard")) for task in tasks]
    return Built(
        shards={entry.number: entry for entry in entries},
        kept=sum(task["kept"] for task in tasks),
        whole=sum(task["whole"] for task in tasks),
    )


def with_empty(built: Built, n_shards: int) -> tuple[ShardEntry, ...]:
    """Return all shards; one that no row fell to is an entry without files."""
    return tuple(
        built.shards.get(number, ShardEntry(number=number, rows=0, seed=0, max_norm=0, files={}))
        for number in range(n_shards)
    )
