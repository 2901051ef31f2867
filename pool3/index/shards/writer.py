"""Writes one shard: a tree over reduced vectors, vectors for re-ranking, ids and metadata.

Rows are written as a stream: only one block of them is in memory at a time, besides Annoy's own
memory. The same rows, reduction and seed give the same trees and vectors, byte by byte, however the
rows are cut into batches.

Deliberately not here: storing the files (`pool3.index.shards.store`) and reading them
(`pool3.index.shards.reader`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pool3.errors import UsageError
from pool3.index.format.entries import IDS, METADATA, TREE, VECTORS
from pool3.index.reduction.pca import Reduction
from pool3.index.reduction.tree_space import longest
from pool3.index.shards.streams import ArrowStream, NpyStream
from pool3.index.shards.tree import build_tree
from pool3.vectors.stored import digests as digests_of
from pool3.vectors.stored import stored_rows

log = logging.getLogger(__name__)

ID_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("digest", pa.uint64(), nullable=False),  # of the vector, `vectors.digests`
    ]
)

# All blocks have this many rows, since the last bits of a matrix product depend on its shape.
_BLOCK_ROWS = 1024

# Annoy takes its seed as a C int.
MAX_SEED = 2**31 - 1

_FILES = {
    TREE: "tree.ann",
    VECTORS: "vectors.npy",
    IDS: "ids.arrow",
    METADATA: "metadata.arrow",
}


@dataclass(frozen=True)
class BuiltShard:
    """A finished shard on local disk, which `ShardWriter.close` returns.

    Attributes
    ----------
    rows
        How many; a shard without rows has no files.
    seed
        Of Annoy's random splits.
    max_norm
        M, the length of the longest reduced row.
    files
        Paths of ``tree``, ``vectors``, ``ids`` and, when the rows had any, ``metadata``.
    """

    rows: int
    seed: int
    max_norm: float
    files: Mapping[str, Path]


def shard_seed(seed: int, number: int) -> int:
    """Return Annoy's seed for one shard, from the index's seed and the shard's number."""
    return (seed + number) % (MAX_SEED + 1)


class ShardWriter:
    """Writes the files of one shard into a folder of local disk.

    Parameters
    ----------
    directory
        An empty folder; it is created when it is missing.
    reduction
        Reduces the vectors; it has the metric.
    n_trees
        How many trees. More trees find more of the true neighbours, but take more time and bytes.
    seed
        Of Annoy's random splits, 0 to `MAX_SEED`.
    vectors_dtype
        ``float16`` or ``float32`` (see `pool3.index.reduction.gram.choose_dtype`).

    Examples
    --------
    ::

        with ShardWriter(folder, reduction=reduction, n_trees=50, seed=1,
                         vectors_dtype="float16") as writer:
            for ids, vectors, metadata in batches:
                writer.append(ids, vectors, metadata)
            built = writer.close()
    """

    def __init__(
        self,
        directory: Path,
        *,
        reduction: Reduction,
        n_trees: int,
        seed: int,
        vectors_dtype: str,
    ) -> None:
        if n_trees < 1:
            raise UsageError(f"n_trees must be at least 1; found {n_trees}")
        if not 0 <= seed <= MAX_SEED:
            raise UsageError(f"seed must be from 0 to {MAX_SEED}; found {seed}")
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._reduction = reduction
        self._n_trees = n_trees
        self._seed = seed
        self._dtype = vectors_dtype
        self._rows = 0
        self._rounded = False
        self._max_norm = 0.0
        self._last_id: str | None = None
        self._pending: list[npt.NDArray[np.float32]] = []
        self._vectors = NpyStream(
            directory / _FILES[VECTORS], dtype=vectors_dtype, length=reduction.input_dimension
        )
        self._reduced_path = directory / "reduced.tmp"
        self._reduced = self._reduced_path.open("wb")
        self._ids = ArrowStream(directory / _FILES[IDS], ID_SCHEMA)
        self._metadata: ArrowStream | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close_files()

    def append(
        self,
        ids: Sequence[str],
        vectors: npt.NDArray[np.float32],
        metadata: pa.RecordBatch | None = None,
        *,
        digests: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        """Add rows.

        Parameters
        ----------
        ids
            n image_ids, unique and ascending over all batches (by code point, as Arrow and Spark
            compare strings).
        vectors
            float32, (n, d), usable (`pool3.vectors.usable.check_vectors`).
        metadata
            n rows for the same pictures; with every batch or with none.
        digests
            uint64, (n,): for vectors copied from another shard, which are rounded already, the
            digests that are stored there; the vectors are then stored bit for bit. With every batch
            or with none. When None, the digests of `vectors`.

        Raises
        ------
        UsageError
            When ids are out of order or repeated, or the arguments differ in length.
        """
        if not len(ids):
            return
        self._check_lengths(ids, vectors, metadata)
        self._check_order(ids)
        if self._rows and (digests is None) == self._rounded:
            raise UsageError("digests must come with every batch of a shard or with none")
        self._rounded = digests is not None
        if metadata is not None and self._metadata is None:
            self._metadata = ArrowStream(self._directory / _FILES[METADATA], metadata.schema)
        if digests is None:
            digests = digests_of(vectors)
        columns = [pa.array(ids, pa.string()), pa.array(digests, pa.uint64())]
        self._ids.write(pa.record_batch(columns, schema=ID_SCHEMA))
        if self._metadata is not None:
            self._metadata.write(metadata)
        self._rows += len(ids)
        self._pending.append(np.array(vectors, dtype=np.float32))
        self._write_blocks(_BLOCK_ROWS)

    def _check_lengths(
        self, ids: Sequence[str], vectors: npt.NDArray[np.float32], metadata: pa.RecordBatch | None
    ) -> None:
        expected = (len(ids), self._reduction.input_dimension)
        if vectors.shape != expected:
            raise UsageError(f"vectors must be of shape {expected}; found {vectors.shape}")
        if self._rows and (metadata is None) != (self._metadata is None):
            raise UsageError("metadata must come with every batch of a shard or with none")
        if metadata is not None and metadata.num_rows != len(ids):
            raise UsageError(
                f"metadata must have {len(ids)} rows, as many as ids; found {metadata.num_rows}"
            )

    def _check_order(self, ids: Sequence[str]) -> None:
        last = self._last_id
        for image_id in ids:
            if not isinstance(image_id, str):
                raise UsageError(f"an image_id must be a string; found {image_id!r}")
            if image_id == last:
                raise UsageError(f"image_ids must be unique; found {image_id!r} twice")
            if last is not None and image_id < last:
                raise UsageError(f"image_ids must ascend; found {image_id!r} after {last!r}")
            last = image_id
        self._last_id = last

    def _write_blocks(self, at_least: int) -> None:
        """Write pending rows, block by block, while there are `at_least` of them."""
        if sum(map(len, self._pending)) < at_least:
            return
        rows = np.concatenate(self._pending)
        while len(rows) >= at_least:
            self._write_block(rows[:_BLOCK_ROWS])
            rows = rows[_BLOCK_ROWS:]
        self._pending = [rows]

    def _write_block(self, rows: npt.NDArray[np.float32]) -> None:
        self._vectors.write(self._stored(rows))
        reduced = self._reduction.reduce(rows)
        self._max_norm = max(self._max_norm, longest(reduced))
        self._reduced.write(reduced.tobytes())

    def _stored(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        if self._rounded:
            return rows.astype(self._vectors.dtype)
        return stored_rows(rows, metric=self._reduction.metric, dtype=self._dtype)

    def close(self) -> BuiltShard:
        """Build the tree; returns the files, and deletes all others in the folder."""
        self._write_blocks(1)
        self._close_files()
        kinds = [TREE, VECTORS, IDS] + ([METADATA] if self._metadata is not None else [])
        if self._rows:
            self._build_tree()
        else:
            kinds = []
            (self._directory / _FILES[VECTORS]).unlink()
            (self._directory / _FILES[IDS]).unlink()
        self._reduced_path.unlink()
        return BuiltShard(
            rows=self._rows,
            seed=self._seed,
            max_norm=self._max_norm,
            files={kind: self._directory / _FILES[kind] for kind in kinds},
        )

    def _close_files(self) -> None:
        for file in (self._vectors, self._reduced, self._ids):
            file.close()
        if self._metadata is not None:
            self._metadata.close()

    def _build_tree(self) -> None:
        shape = (self._rows, self._reduction.dimension)
        build_tree(
            self._directory / _FILES[TREE],
            np.memmap(self._reduced_path, dtype=np.float32, mode="r", shape=shape),
            self._reduction,
            max_norm=self._max_norm,
            n_trees=self._n_trees,
            seed=self._seed,
        )
        log.info("built %s trees over %s rows", self._n_trees, self._rows)
