"""Writing one shard: a tree over reduced vectors, vectors for re-ranking, ids and metadata.

Rows stream through: never more than a block of them is in memory, besides what Annoy keeps. The
same rows, reduction and seed give the same bytes, however the rows were cut into batches.

Deliberately not here: where the files go (`pool3.index.snapshots.publication`), and reading them
(`pool3.index.shards.reader`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from annoy import AnnoyIndex

from pool3.errors import Pool3Error, UsageError
from pool3.index.format.entries import IDS, METADATA, TREE, VECTORS
from pool3.index.reduction import Reduction, longest, tree_rows
from pool3.vectors.stored import digests as digests_of
from pool3.vectors.stored import stored_rows

log = logging.getLogger(__name__)

ID_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("digest", pa.uint64(), nullable=False),  # of the vector, `vectors.digests`
    ]
)

# Blocks are always of this many rows, since the last bits of a matrix product depend on its shape.
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
class LocalFile:
    """A finished file on local disk: path, number of bytes, SHA-256."""

    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True)
class BuiltShard:
    """A shard as `ShardWriter.close` leaves it on local disk.

    Attributes
    ----------
    rows
        How many; a shard without rows has no files.
    seed
        Of Annoy.
    max_norm
        M, the length of the longest reduced row.
    files
        ``tree``, ``vectors``, ``ids`` and, when rows came with it, ``metadata``.
    """

    rows: int
    seed: int
    max_norm: float
    files: Mapping[str, LocalFile]


def shard_seed(seed: int, number: int) -> int:
    """Annoy's seed of one shard, from the index's seed and the shard's number."""
    return (seed + number) % (MAX_SEED + 1)


class ShardWriter:
    """Writes the files of one shard into a folder of local disk.

    Parameters
    ----------
    directory
        An empty folder, made when it is missing.
    reduction
        How vectors become the tree's; it carries the metric.
    n_trees
        More trees find more of the true neighbours, and cost build time and bytes.
    seed
        Of Annoy's random splits, 0 to `MAX_SEED`.
    vectors_dtype
        ``float16`` or ``float32`` (`pool3.index.reduction.choose_dtype` decides).

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
        self._vectors = (directory / _FILES[VECTORS]).open("wb")
        self._write_header()
        self._reduced_path = directory / "reduced.tmp"
        self._reduced = self._reduced_path.open("wb")
        self._ids = _ArrowFile(directory / _FILES[IDS], ID_SCHEMA)
        self._metadata: _ArrowFile | None = None

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
            n image_ids, ascending over all batches together (by code point, as Arrow and Spark
            compare strings), none twice.
        vectors
            float32, (n, d), usable (`pool3.vectors.usable.check_vectors`).
        metadata
            n rows about the same pictures; with every batch or with none.
        digests
            uint64, (n,), where the vectors are those of another shard, already rounded: the digests
            that stand there; the vectors are then stored bit for bit. With every batch or with
            none; None takes the digests of the vectors themselves.

        Raises
        ------
        UsageError
            When ids are out of order or repeated, or the parts are of different lengths.
        """
        if not len(ids):
            return
        self._check_lengths(ids, vectors, metadata)
        self._check_order(ids)
        if self._rows and (digests is None) == self._rounded:
            raise UsageError("digests must come with every batch of a shard or with none")
        self._rounded = digests is not None
        if metadata is not None and self._metadata is None:
            self._metadata = _ArrowFile(self._directory / _FILES[METADATA], metadata.schema)
        told = digests_of(vectors) if digests is None else digests
        columns = [pa.array(ids, pa.string()), pa.array(told, pa.uint64())]
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
            raise UsageError(f"{len(ids)} ids came with {metadata.num_rows} rows of metadata")

    def _check_order(self, ids: Sequence[str]) -> None:
        last = self._last_id
        for image_id in ids:
            if not isinstance(image_id, str):
                raise UsageError(f"an image_id must be a string; found {image_id!r}")
            if image_id == last:
                raise UsageError(f"image_id {image_id!r} stands twice; each may stand only once")
            if last is not None and image_id < last:
                raise UsageError(f"image_ids must ascend; found {image_id!r} after {last!r}")
            last = image_id
        self._last_id = last

    def _write_blocks(self, at_least: int) -> None:
        """Write out pending rows, block by block, while there are `at_least` of them."""
        if sum(map(len, self._pending)) < at_least:
            return
        rows = np.concatenate(self._pending)
        while len(rows) >= at_least:
            self._write_block(rows[:_BLOCK_ROWS])
            rows = rows[_BLOCK_ROWS:]
        self._pending = [rows]

    def _write_block(self, rows: npt.NDArray[np.float32]) -> None:
        self._vectors.write(self._stored(rows).tobytes())
        reduced = self._reduction.reduce(rows)
        self._max_norm = max(self._max_norm, longest(reduced))
        self._reduced.write(reduced.tobytes())

    def _stored(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        if self._rounded:
            return rows.astype(np.dtype(self._dtype).newbyteorder("<"))
        return stored_rows(rows, metric=self._reduction.metric, dtype=self._dtype)

    def _write_header(self) -> None:
        """Write the header of vectors.npy; NumPy leaves room in it for the final row count."""
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(self._dtype).newbyteorder("<")),
            "fortran_order": False,
            "shape": (self._rows, self._reduction.input_dimension),
        }
        np.lib.format.write_array_header_1_0(self._vectors, header)

    def close(self) -> BuiltShard:
        """Build the tree and return what was written; the folder then holds nothing else."""
        self._write_blocks(1)
        length = self._vectors.tell()
        self._vectors.seek(0)
        self._write_header()
        self._vectors.seek(length)
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
            files={kind: _file_facts(self._directory / _FILES[kind]) for kind in kinds},
        )

    def _close_files(self) -> None:
        for file in (self._vectors, self._reduced, self._ids):
            file.close()
        if self._metadata is not None:
            self._metadata.close()

    def _build_tree(self) -> None:
        reduction = self._reduction
        shape = (self._rows, reduction.dimension)
        reduced = np.memmap(self._reduced_path, dtype=np.float32, mode="r", shape=shape)
        tree = AnnoyIndex(reduction.tree_dimension, "euclidean")
        tree.set_seed(self._seed)
        tree.on_disk_build(str(self._directory / _FILES[TREE]))
        for start in range(0, self._rows, _BLOCK_ROWS):
            block = tree_rows(
                reduced[start : start + _BLOCK_ROWS],
                metric=reduction.metric,
                max_norm=self._max_norm,
            )
            for item, row in enumerate(block.tolist(), start):
                tree.add_item(item, row)
        # One thread: each thread draws its own random splits, so that more would not repeat.
        if not tree.build(self._n_trees, n_jobs=1):
            raise Pool3Error(f"Annoy could not build a tree of {self._rows} rows")
        tree.unload()
        log.info("built %s trees over %s rows", self._n_trees, self._rows)


class _ArrowFile:
    """An Arrow IPC file being written; pyarrow's own writer leaves the file beneath it open."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("wb")
        self._writer = pa.ipc.new_file(self._file, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        if not self._file.closed:
            self._writer.close()
            self._file.close()


def _file_facts(path: Path) -> LocalFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return LocalFile(path, path.stat().st_size, digest)
