"""An index built with pool3's library alone: what the job's tasks do, without Spark around it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Rows, in_processes
from pool3.index.format.entries import ShardEntry, TableEntry
from pool3.index.format.manifest import Manifest
from pool3.index.reduction.gram import Gram, choose_dtype
from pool3.index.reduction.pca import Reduction, fit
from pool3.index.shards.store import store_shard
from pool3.index.shards.writer import ShardWriter, shard_seed
from pool3.index.snapshots.gates import Gates
from pool3.index.snapshots.next import NextSnapshot
from pool3.index.snapshots.store import store_reduction
from pool3.vectors.stored import stored_rows

SEED = 1


@dataclass(frozen=True, kw_only=True)
class _ShardJob:
    number: int
    start: int
    stop: int


def fitted(rows: Rows) -> tuple[Reduction, str]:
    """Return the reduction of all rows, and the dtype that re-rank vectors take."""
    gram = Gram(rows.metric, rows.dimension)
    for block in rows.blocks():
        gram.add(block)
    return fit(gram), choose_dtype(gram)


def stored_vectors(rows: Rows, path: Path, dtype: str) -> None:
    """Write what re-ranking reads, without any header."""
    with path.open("wb") as file:
        for block in rows.blocks():
            file.write(stored_rows(block, metric=rows.metric, dtype=dtype).tobytes())


def build_index(
    rows: Rows, folder: Path, *, n_shards: int, n_trees: int, processes: int
) -> Manifest:
    """Build and publish an index at folder/index; the id of a row is its number."""
    index = str(folder / "index")
    reduction, dtype = fitted(rows)
    bounds = np.linspace(0, rows.rows, n_shards + 1).astype(int).tolist()
    jobs = [
        _ShardJob(number=number, start=start, stop=stop)
        for number, (start, stop) in enumerate(pairwise(bounds))
    ]
    # Processes that are started from here on work with one thread each, as Spark's tasks do.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    build = partial(_build_shard, rows, index, {"reduction": reduction, "n_trees": n_trees}, dtype)
    entries = in_processes(build, jobs, min(processes, n_shards))
    first = NextSnapshot.begin(index, "benchmark")
    manifest = first.fresh(
        metric=rows.metric,
        dimension=rows.dimension,
        reduction=store_reduction(index, reduction, snapshot=1, unique="benchmark"),
        n_trees=n_trees,
        seed=SEED,
        vectors_dtype=dtype,
        model_id=None,
        model=None,
        table=TableEntry(uri=str(rows.path), version=None),
        rows=rows.rows,
        counts={"indexed": rows.rows},
        shards=tuple(entries),
    )
    first.publish(manifest, why="built", gates=Gates(max_shrink=0.0))
    return manifest


def _build_shard(
    rows: Rows, index: str, options: dict[str, Any], dtype: str, job: _ShardJob
) -> ShardEntry:
    with tempfile.TemporaryDirectory(dir=Path(index).parent) as folder:
        seed = shard_seed(SEED, job.number)
        with ShardWriter(
            Path(folder) / "shard", seed=seed, vectors_dtype=dtype, **options
        ) as writer:
            at = job.start
            for block in rows.blocks(job.start, job.stop):
                writer.append([f"{row:09d}" for row in range(at, at + len(block))], block)
                at += len(block)
            built = writer.close()
        return store_shard(index, built, number=job.number, unique=f"shard-{job.number}")
