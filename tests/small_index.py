"""Small indexes for tests, built with the library alone, without Spark."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pool3.engines import Engine
from pool3.gallery.drawing import draw_gallery
from pool3.images.decode import decode_resized
from pool3.index.format.entries import TableEntry
from pool3.index.format.manifest import Manifest
from pool3.index.reduction.gram import Gram, choose_dtype
from pool3.index.reduction.pca import fit
from pool3.index.shards.store import store_shard
from pool3.index.shards.writer import ShardWriter, shard_seed
from pool3.index.snapshots.files import IndexFiles, stored_reduction
from pool3.index.snapshots.publication import (
    newest_snapshot,
    publish,
    write_manifest,
)
from pool3.index.snapshots.snapshot import Snapshot
from pool3.index.snapshots.store import store_reduction
from pool3.models import ModelDirectory
from pool3.search.index import Index


def build_index(
    directory: Path,
    vectors: np.ndarray,
    *,
    ids: Sequence[str] | None = None,
    metric: str = "angular",
    n_shards: int = 1,
    shard_of: Sequence[int] | None = None,
    n_trees: int = 10,
    seed: int = 1,
    vectors_dtype: str = "auto",
    metadata: pa.Table | None = None,
    model: tuple[str, str] | None = None,
    published: bool = True,
) -> Path:
    """Build a snapshot of `directory` from arrays, as the Spark job does from a table.

    `shard_of` gives each row's shard (by turns when None); `model` is (model_id, relative folder).
    """
    index = str(directory)
    vectors = np.asarray(vectors, dtype=np.float32)
    ids = [f"id{row:06d}" for row in range(len(vectors))] if ids is None else list(ids)
    shard_of = np.arange(len(ids)) % n_shards if shard_of is None else np.asarray(shard_of)
    order = np.array(sorted(range(len(ids)), key=lambda row: ids[row]), dtype=np.int64)
    gram = Gram(metric, vectors.shape[1])
    gram.add(vectors)
    reduction = fit(gram)
    dtype = choose_dtype(gram, vectors_dtype)
    parent = newest_snapshot(index)
    number = (parent or 0) + 1
    entries = []
    for shard in range(n_shards):
        rows = order[shard_of[order] == shard]
        unique = hashlib.sha256(f"{number}/{shard}".encode()).hexdigest()[:16]
        folder = directory.parent / f"work-{directory.name}-{unique}"
        with ShardWriter(
            folder,
            reduction=reduction,
            n_trees=n_trees,
            seed=shard_seed(seed, shard),
            vectors_dtype=dtype,
        ) as writer:
            writer.append([ids[row] for row in rows], vectors[rows], _taken(metadata, rows))
            built = writer.close()
        entries.append(store_shard(index, built, number=shard, unique=unique))
    manifest = Manifest(
        snapshot_id=number,
        parent=parent,
        created_at="2026-01-01T00:00:00+00:00",
        run_id=f"run-{number}",
        metric=metric,
        dimension=vectors.shape[1],
        reduction=store_reduction(index, reduction, snapshot=number, unique="test"),
        n_trees=n_trees,
        seed=seed,
        vectors_dtype=dtype,
        model_id=model[0] if model else None,
        model=model[1] if model else None,
        table=TableEntry(uri="/lake/features", version=0),
        rows=len(vectors),
        counts={"ok": len(vectors)},
        shards=tuple(entries),
    )
    write_manifest(index, manifest)
    if published:
        publish(index, number, by="test", why="built by a test")
    return directory


def open_with(uri: str, manifest: Manifest) -> Index:
    """Open an index with a manifest that is not written."""
    files = IndexFiles(uri, manifest)
    return Index(Snapshot(uri, manifest, stored_reduction(files, manifest), files))


def _taken(metadata: pa.Table | None, rows: np.ndarray) -> pa.RecordBatch | None:
    if metadata is None or not len(rows):
        return None
    return metadata.take(pa.array(rows)).combine_chunks().to_batches()[0]


def build_demo(folder: Path, model: ModelDirectory, engine: Engine, *, n_scenes: int = 2) -> Path:
    """Draw scenes and index them with a model, laid out as `make demo` does.

    Returns the index; the pictures are in `folder`/build/demo/pictures.
    """
    demo = folder / "build" / "demo"
    paths = [demo / "pictures" / entry.name for entry in draw_gallery(demo, n_scenes=n_scenes)]
    pictures = [
        decode_resized(path.read_bytes(), size=model.input_size, resize=model.resize)
        for path in paths
    ]
    vectors = engine(np.stack([picture.rgb for picture in pictures]))
    copy = f"models/{model.model_id}"
    model.write(str(demo / "index" / copy))
    ids = [str(path) for path in paths]
    metadata = pa.table(
        {
            "uri": ids,
            "width": [picture.width for picture in pictures],
            "height": [picture.height for picture in pictures],
            "format": [picture.format for picture in pictures],
        }
    )
    return build_index(
        demo / "index",
        vectors,
        ids=ids,
        n_shards=2,
        metadata=metadata,
        model=(model.model_id, copy),
    )
