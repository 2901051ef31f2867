"""What every way of finding neighbours has in common, and the ways of pool3 itself.

A way builds files from blocks of rows, opens them in another process, and answers queries with row
numbers at several efforts. The rivals are in `benchmarks.index_rivals`.
"""

# ruff: noqa: D102 -- `Way` says what each method does

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Rows
from benchmarks.vectors import Array

#: How many of the nearest reduced vectors are measured exactly, by every way that reduces.
RERANKS = (20, 50, 100, 200)
N_TREES = 50
EF_CONSTRUCTION = 200
M = 16


class Way:
    """One way of finding neighbours."""

    #: What the table calls it.
    title: str
    #: Whether one open index may be asked by several threads, each for one query.
    spread = False

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def build(self, rows: Rows, folder: Path, threads: int) -> None:
        """Write everything that a search needs below an empty folder."""
        raise NotImplementedError

    def open(self, rows: Rows, folder: Path, threads: int) -> None:
        """Open what `build` wrote; of `rows` only the form may be used."""
        raise NotImplementedError

    def efforts(self, k: int) -> list[Any]:
        """Return the efforts that are tried, JSON values, cheapest first."""
        raise NotImplementedError

    def tune(self, effort: Any) -> None:
        """Set the effort of the searches that follow."""
        raise NotImplementedError

    def find(self, query: Array, k: int) -> Array:
        """Return the row numbers of the nearest k to one query, float32 (d,), best first."""
        raise NotImplementedError

    def find_many(self, queries: Array, k: int, threads: int) -> Array:
        """Return the row numbers of the nearest k to each query, (n, k)."""
        if threads == 1:
            return np.stack([self.find(query, k) for query in queries])
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads)
        return np.stack(list(self._pool.map(lambda query: self.find(query, k), queries)))


class Pool3(Way):
    """The library itself, shards built as the job's tasks build them: one a process at a time."""

    def __init__(self, n_shards: int) -> None:
        super().__init__()
        self.n_shards = n_shards
        self.title = f"pool3, {n_shards} shard{'s' if n_shards > 1 else ''}"

    def build(self, rows: Rows, folder: Path, threads: int) -> None:
        from benchmarks.index_library import build_index

        build_index(rows, folder, n_shards=self.n_shards, n_trees=N_TREES, processes=threads)

    def open(self, rows: Rows, folder: Path, threads: int) -> None:
        import pool3

        self._index = pool3.open(folder / "index")

    def efforts(self, k: int) -> list[Any]:
        total = [100 * 2**step for step in range(9)]
        return [[search_k, rerank] for search_k in total for rerank in RERANKS]

    def tune(self, effort: Any) -> None:
        self._search_k, self._rerank = effort

    def find(self, query: Array, k: int) -> Array:
        hits = self._index.search(query, k=k, search_k=self._search_k, rerank=self._rerank)
        return np.array(hits.ids, dtype=np.int64)

    def find_many(self, queries: Array, k: int, threads: int) -> Array:
        del threads  # an index takes as many as it has cores
        ids, _ = self._index.search_batch(queries, k, search_k=self._search_k, rerank=self._rerank)
        return ids.astype(np.int64)


class OnPca(Way):
    """Another way on pool3's own reduction, its candidates re-ranked as pool3 does it."""

    def __init__(self, inner: Way, title: str) -> None:
        super().__init__()
        self._inner = inner
        self.title = title

    def build(self, rows: Rows, folder: Path, threads: int) -> None:
        from benchmarks.index_library import fitted, stored_vectors

        reduction, dtype = fitted(rows)
        facts = {"kind": reduction.kind, "explained_variance": reduction.explained_variance}
        (folder / "reduction.json").write_text(json.dumps({**facts, "dtype": dtype}))
        if reduction.kind == "pca":
            (folder / "reduction").write_bytes(reduction.to_bytes())
        stored_vectors(rows, folder / "vectors", dtype)
        # The short rows are input of the inner way, so they stay out of its folder.
        path = folder / "reduced.tmp"
        with path.open("wb") as file:
            for block in rows.blocks():
                file.write(reduction.reduce(block).tobytes())
        (folder / "inner").mkdir()
        self._inner.build(
            Rows(path=path, rows=rows.rows, dimension=reduction.dimension, metric="euclidean"),
            folder / "inner",
            threads,
        )
        path.unlink()

    def open(self, rows: Rows, folder: Path, threads: int) -> None:
        from pool3.index.reduction.pca import MAX_DIMENSION, Reduction, load_reduction

        facts = json.loads((folder / "reduction.json").read_text())
        self._metric = rows.metric
        self._reduction = Reduction(rows.metric, rows.dimension)
        if facts["kind"] == "pca":
            self._reduction = load_reduction(
                (folder / "reduction").read_bytes(),
                metric=rows.metric,
                dimension=rows.dimension,
                reduced=MAX_DIMENSION,
                explained_variance=facts["explained_variance"],
            )
        shape = (rows.rows, rows.dimension)
        self._vectors = np.memmap(folder / "vectors", facts["dtype"], mode="r", shape=shape)
        short = self._reduction.dimension
        inner = Rows(path=folder, rows=rows.rows, dimension=short, metric="euclidean")
        self._inner.open(inner, folder / "inner", threads)

    def efforts(self, k: int) -> list[Any]:
        pairs = [(effort, rerank) for effort in self._inner.efforts(k) for rerank in RERANKS]
        return [[effort, rerank] for effort, rerank in pairs if rerank <= max(effort, RERANKS[0])]

    def tune(self, effort: Any) -> None:
        inner, self._rerank = effort
        self._inner.tune(inner)

    def find(self, query: Array, k: int) -> Array:
        short = self._reduction.reduce(query[None, :])[0]
        return self._best(query, self._inner.find(short, self._rerank), k)

    def find_many(self, queries: Array, k: int, threads: int) -> Array:
        short = self._reduction.reduce(queries)
        near = self._inner.find_many(short, self._rerank, threads)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads)
        best: Callable[..., Array] = lambda query, rows: self._best(query, rows, k)  # noqa: E731
        return np.stack(list(self._pool.map(best, queries, near)))

    def _best(self, query: Array, rows: Array, k: int) -> Array:
        from pool3.vectors.bounded import nearest

        rows = rows[rows >= 0]
        near, found = nearest(query, self._vectors[rows], self._metric, k)
        return np.asarray(rows[near[np.argsort(found)[:k]]])
