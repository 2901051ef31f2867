"""Builds shards: assigns rows of a table or of other shards to them; each is built by one task."""

from __future__ import annotations

import tempfile
import uuid
import zlib
from collections.abc import Set
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from pool3.features.column_types import to_stored
from pool3.features.column_values import from_numbered, numbered_columns, to_numbered
from pool3.features.table import FeatureTable
from pool3.features.vectors import SkippedRows, usable_rows
from pool3.index.format.entries import IDS, METADATA, ShardEntry
from pool3.index.reduction.pca import Reduction
from pool3.index.shards.store import store_shard
from pool3.index.shards.stored import open_rows, open_vectors
from pool3.index.shards.tombstones import live_mask
from pool3.index.shards.writer import ShardWriter, shard_seed
from pool3.index.snapshots.snapshot import Snapshot
from pool3.storage.tables import TableFile
from udfs.tasks import Batches, Broadcast, TaskFunction, files_of, shards_of, summary

# With underscores, so that none collides with a column of a table.
_OWN = pa.schema(
    [
        pa.field("_shard", pa.int32(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("_vector", pa.binary(), nullable=False),  # float32, little-endian
        pa.field("_digest", pa.int64()),  # null: of the vector itself
    ]
)


def row_schema(carried: pa.Schema) -> T.StructType:
    """Return the schema of rows assigned to shards: `_OWN` and the carried columns."""
    return from_arrow_schema(pa.schema([*_OWN, *numbered_columns(carried)]))


def shard_of(image_id: str, n_shards: int) -> int:
    """Return the shard of a picture, which is the same for every table, machine and run."""
    return zlib.crc32(image_id.encode()) % n_shards


def assigned_rows(
    ids: pa.Array,
    vectors: npt.NDArray[np.float32],
    metadata: pa.RecordBatch,
    n_shards: int | None,
    *,
    number: int = 0,
    digests: pa.Array | None = None,
) -> pa.RecordBatch:
    """Return rows of `row_schema`.

    Parameters
    ----------
    ids, vectors, metadata
        The rows.
    n_shards
        The number of shards to assign them to by id; None for all of them in the shard `number`.
    number
        See `n_shards`.
    digests
        int64: digests of the vectors; None if they follow from the vectors.
    """
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
        [*own, *to_numbered(metadata)],
        names=[*_OWN.names, *numbered_columns(metadata.schema).names],
    )


def assign_rows(
    table: FeatureTable, *, carried: pa.Schema, dimension: int, metric: str, n_shards: int
) -> TaskFunction:
    """Return the function that yields the usable rows of files, as rows of `row_schema`."""

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            yield from rows_of_file(table, file, carried, dimension, metric, n_shards)

    return run


def rows_of_file(
    table: FeatureTable,
    file: TableFile,
    carried: pa.Schema,
    dimension: int,
    metric: str,
    n_shards: int,
) -> Batches:
    """Yield the usable rows of one file, each assigned to a shard."""
    for rows in usable_rows(
        table,
        file,
        dimension=dimension,
        metric=metric,
        skipped_rows=SkippedRows(),  # an earlier pass counted them
        carried=carried,
    ):
        yield assigned_rows(rows.ids, rows.vectors, rows.metadata, n_shards)


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """The settings of a task that builds a shard, besides the reduction.

    Attributes
    ----------
    index_uri
        Where shards are stored.
    n_trees, seed, vectors_dtype
        As in the manifest.
    added_in
        The snapshot that the shards are added in.
    carried
        The columns of metadata.
    first_number
        The manifest's number of the first shard that is built.
    unseen
        Whether the reduction was fitted without these rows, so that the summary states how much
        of their variance it explains.
    """

    index_uri: str
    n_trees: int
    seed: int
    vectors_dtype: str
    added_in: int
    carried: pa.Schema
    first_number: int = 0
    unseen: bool = False

    @classmethod
    def like(cls, base: Snapshot, *, added_in: int, carried: pa.Schema) -> ShardSettings:
        """Return the settings that the shards of a snapshot were built with."""
        manifest = base.manifest
        return cls(
            index_uri=base.uri,
            n_trees=manifest.n_trees,
            seed=manifest.seed,
            vectors_dtype=manifest.vectors_dtype,
            added_in=added_in,
            carried=carried,
        )


def build_shard(settings: ShardSettings, reduction: Broadcast[Reduction]) -> TaskFunction:
    """Return the function that builds and stores the shard whose sorted rows are its partition.

    Its summary is ``{"entry", "explained", "variance"}``: the `ShardEntry`, and two sums of
    `Reduction.variance` over the rows if these are `unseen`; there is none without rows.
    """

    def run(batches: Batches) -> Batches:
        return stored_shard(batches, settings, reduction.value)

    return run


def stored_shard(batches: Batches, settings: ShardSettings, reduction: Reduction) -> Batches:
    """Build and store one shard and yield its summary."""
    filled = (batch for batch in batches if batch.num_rows)
    first = next(filled, None)
    if first is None:
        return
    number = settings.first_number + first.column("_shard")[0].as_py()
    with (
        tempfile.TemporaryDirectory(prefix="pool3-shard-") as folder,
        ShardWriter(
            Path(folder) / "shard",
            reduction=reduction,
            n_trees=settings.n_trees,
            seed=shard_seed(settings.seed, number),
            vectors_dtype=settings.vectors_dtype,
        ) as writer,
    ):
        explained = variance = 0.0
        for batch in chain([first], filled):
            vectors = _append(writer, batch, settings.carried)
            if settings.unseen:
                more = reduction.variance(vectors)
                explained, variance = explained + more[0], variance + more[1]
        entry = store_shard(
            settings.index_uri,
            writer.close(),
            number=number,
            unique=uuid.uuid4().hex,
            added_in=settings.added_in,
        )
    yield summary({"entry": asdict(entry), "explained": explained, "variance": variance})


def _append(
    writer: ShardWriter, batch: pa.RecordBatch, carried: pa.Schema
) -> npt.NDArray[np.float32]:
    vectors = np.stack([np.frombuffer(row, "<f4") for row in batch.column("_vector").to_pylist()])
    metadata = from_numbered(batch, carried) if carried.names else None
    digests = batch.column("_digest")
    writer.append(
        batch.column("image_id").to_pylist(),
        vectors,
        metadata,
        digests=None if digests.null_count else digests.to_numpy().view(np.uint64),
    )
    return vectors


_ROWS_AT_ONCE = 4096


def assign_stored(
    index_uri: str, carried: pa.Schema, n_shards: int | None, without: Broadcast[Set[str]]
) -> TaskFunction:
    """Return the function that yields the live rows of shards, as rows of `row_schema`.

    Parameters
    ----------
    index_uri
        The index.
    carried
        The columns of metadata; those that a shard lacks are null.
    n_shards
        As for `assigned_rows`; each row stays in its own shard when None.
    without
        The ids to leave out.
    """

    def run(batches: Batches) -> Batches:
        excluded = pa.array(sorted(without.value), pa.string())
        for entry in shards_of(batches):
            yield from stored_rows(index_uri, entry, carried, n_shards, excluded)

    return run


def stored_rows(
    index_uri: str, entry: ShardEntry, carried: pa.Schema, n_shards: int | None, excluded: pa.Array
) -> Batches:
    """Yield the live rows of one shard, without the `excluded` ids."""
    ids = open_rows(index_uri, entry, IDS).table()
    selected = live_mask(index_uri, entry)
    selected &= ~pc.is_in(ids.column("image_id"), excluded).to_numpy()
    vectors = open_vectors(index_uri, entry)
    metadata = pa.table({})
    if METADATA in entry.files:
        metadata = open_rows(index_uri, entry, METADATA).table()
    for start in range(0, entry.rows, _ROWS_AT_ONCE):
        rows = start + np.flatnonzero(selected[start : start + _ROWS_AT_ONCE])
        if len(rows):
            yield assigned_rows(
                _column(ids, "image_id", rows),
                vectors[rows].astype(np.float32),
                _taken(metadata, carried, rows),
                n_shards,
                number=entry.number,
                digests=_digests(ids, rows),
            )


def _taken(table: pa.Table, carried: pa.Schema, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    arrays = [
        to_stored(_column(table, field.name, rows), field.type)
        if field.name in table.schema.names
        else pa.nulls(len(rows), field.type)
        for field in carried
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=carried)


def _column(table: pa.Table, name: str, rows: npt.NDArray[np.int64]) -> pa.Array:
    first, last = int(rows[0]), int(rows[-1])
    span = table.column(name).slice(first, last - first + 1).combine_chunks()
    return pa.array(span).take(pa.array(rows - first))


def _digests(ids: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Array:
    """Return digests as int64, which Spark has; 0 if the shard's format has none."""
    if "digest" not in ids.schema.names:
        return pa.array(np.zeros(len(rows), dtype=np.int64))
    return pa.array(_column(ids, "digest", rows).to_numpy().view(np.int64))
