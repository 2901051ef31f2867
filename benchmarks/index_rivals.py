"""The ways of other libraries, each with the parameters that its own documents name for this size.

Distances are euclidean everywhere: on unit vectors that is the order of cosines. Graphs have 16
links a row and look at 200 candidates when they are built.
"""

# ruff: noqa: D102 -- `Way` says what each method does

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index_ways import EF_CONSTRUCTION, N_TREES, M, OnPca, Pool3, Way
from benchmarks.rows import Rows
from benchmarks.vectors import Array

# How many candidates a graph search keeps.
EFFORTS = (10, 15, 20, 30, 50, 80, 120, 200, 400, 800)
PROBES = (1, 2, 4, 8, 16, 32, 64, 128)


class Exhaustive(Way):
    """Every row measured, in float32, by one matrix product."""

    title = "brute force (NumPy)"

    def build(self, rows: Rows, folder: Path, threads: int) -> None:
        with (folder / "rows").open("wb") as file:
            for block in rows.blocks():
                file.write(block.tobytes())

    def open(self, rows: Rows, folder: Path, threads: int) -> None:
        whole = np.fromfile(folder / "rows", dtype=np.float32)
        self._rows = whole.reshape(rows.rows, rows.dimension)
        self._norms = np.einsum("ij,ij->i", self._rows, self._rows)

    def efforts(self, k: int) -> list[Any]:
        return [1]

    def tune(self, effort: Any) -> None:
        pass

    def find(self, query: Array, k: int) -> Array:
        far = self._norms - 2 * (self._rows @ query)
        near = np.argpartition(far, k)[:k]
        return np.asarray(near[np.argsort(far[near])])

    def find_many(self, queries: Array, k: int, threads: int) -> Array:
        far = self._norms - 2 * (queries @ self._rows.T)
        near = np.argpartition(far, k, axis=1)[:, :k]
        return np.take_along_axis(near, np.argsort(np.take_along_axis(far, near, 1)), 1)


class RawAnnoy(Way):
    """Annoy on the vectors as they are, as most people use it."""

    title = f"Annoy, raw, {N_TREES} trees"

    def _tree(self, rows: Rows) -> Any:
        from annoy import AnnoyIndex

        return AnnoyIndex(rows.dimension, rows.metric)

    def build(self, rows: Rows, folder: Path, threads: int) -> None:
        tree = self._tree(rows)
        tree.set_seed(1)
        row = 0
        for block in rows.blocks():
            for vector in block.tolist():
                tree.add_item(row, vector)
                row += 1
        tree.build(N_TREES, n_jobs=threads)
        tree.save(str(folder / "tree"))

    def open(self, rows: Rows, folder: Path, threads: int) -> None:
        self._annoy = self._tree(rows)
        self._annoy.load(str(folder / "tree"))

    def efforts(self, k: int) -> list[Any]:
        return [N_TREES * k * 2**step for step in range(8)]  # the first is Annoy's default

    def tune(self, effort: Any) -> None:
        self._search_k = effort

    def find(self, query: Array, k: int) -> Array:
        found = self._annoy.get_nns_by_vector(query.tolist(), k, search_k=self._search_k)
        return np.array(found, dtype=np.int64)


class Hnswlib(Way):
    """hnswlib."""

    title = "hnswlib, raw"

    def build(self, rows: Rows, folder: Path, threads: int) -> None:
        import hnswlib

        graph = hnswlib.Index("l2", rows.dimension)
        graph.init_index(rows.rows, M=M, ef_construction=EF_CONSTRUCTION, random_seed=1)
        for block in rows.blocks():
            graph.add_items(block, num_threads=threads)
        graph.save_index(str(folder / "graph"))

    def open(self, rows: Rows, folder: Path, threads: int) -> None:
        import hnswlib

        self._graph = hnswlib.Index("l2", rows.dimension)
        self._graph.load_index(str(folder / "graph"))
        self._graph.set_num_threads(threads)

    def efforts(self, k: int) -> list[Any]:
        return [effort for effort in EFFORTS if effort >= k]

    def tune(self, effort: Any) -> None:
        self._graph.set_ef(effort)

    def find(self, query: Array, k: int) -> Array:
        return np.asarray(self._graph.knn_query(query, k, num_threads=1)[0][0], dtype=np.int64)

    def find_many(self, queries: Array, k: int, threads: int) -> Array:
        return np.asarray(self._graph.knn_query(queries, k, num_threads=threads)[0], dtype=np.int64)


class Faiss(Way):
    """An index of faiss, by its factory's name."""

    def __init__(self, title: str, factory: str, train_rows: int = 0) -> None:
        super().__init__()
        self.title = title
        self._factory = factory
        self._train_rows = train_rows

    def build(self, rows: Rows, folder: Path, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        # Four times the root of the rows is the number of lists that faiss' guidelines begin from.
        lists = max(1, int(4 * math.sqrt(rows.rows)))
        index = faiss.index_factory(rows.dimension, self._factory.format(lists=lists))
        if "HNSW" in self._factory:
            index.hnsw.efConstruction = EF_CONSTRUCTION
        if self._train_rows:
            index.train(rows.some(self._train_rows))
        for block in rows.blocks():
            index.add(block)
        faiss.write_index(index, str(folder / "index"))

    def open(self, rows: Rows, folder: Path, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._index = faiss.read_index(str(folder / "index"))
        self._space = faiss.ParameterSpace()

    def efforts(self, k: int) -> list[Any]:
        if "HNSW" in self._factory:
            return [effort for effort in EFFORTS if effort >= k]
        if "Refine" in self._factory:
            return [[probes, factor] for probes in PROBES[2:] for factor in (2, 5, 10, 20)]
        return list(PROBES)

    def tune(self, effort: Any) -> None:
        if "HNSW" in self._factory:
            self._index.hnsw.efSearch = effort
        elif "Refine" in self._factory:
            probes, factor = effort
            self._space.set_index_parameters(self._index, f"nprobe={probes},k_factor_rf={factor}")
        else:
            self._index.nprobe = effort

    def find(self, query: Array, k: int) -> Array:
        return np.asarray(self._index.search(query[None, :], k)[1][0])

    def find_many(self, queries: Array, k: int, threads: int) -> Array:
        return np.asarray(self._index.search(queries, k)[1])


class Usearch(Way):
    """usearch, which keeps float16."""

    title = "usearch, raw, float16"

    def _graph_of(self, rows: Rows) -> Any:
        from usearch.index import Index

        return Index(
            ndim=rows.dimension,
            metric="l2sq",
            dtype="f16",
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )

    def build(self, rows: Rows, folder: Path, threads: int) -> None:
        graph = self._graph_of(rows)
        start = 0
        for block in rows.blocks():
            graph.add(np.arange(start, start + len(block)), block, threads=threads)
            start += len(block)
        graph.save(str(folder / "graph"))

    def open(self, rows: Rows, folder: Path, threads: int) -> None:
        self._graph = self._graph_of(rows)
        self._graph.load(str(folder / "graph"))

    def efforts(self, k: int) -> list[Any]:
        return [effort for effort in EFFORTS if effort >= k]

    def tune(self, effort: Any) -> None:
        self._graph.expansion_search = effort

    def find(self, query: Array, k: int) -> Array:
        return np.asarray(self._graph.search(query, k, threads=1).keys, dtype=np.int64)

    def find_many(self, queries: Array, k: int, threads: int) -> Array:
        return np.asarray(self._graph.search(queries, k, threads=threads).keys, dtype=np.int64)


class Voyager(Way):
    """voyager."""

    title = "voyager, raw"

    def build(self, rows: Rows, folder: Path, threads: int) -> None:
        import voyager

        graph = voyager.Index(
            voyager.Space.Euclidean,
            num_dimensions=rows.dimension,
            M=M,
            ef_construction=EF_CONSTRUCTION,
            max_elements=rows.rows,
        )
        for block in rows.blocks():
            graph.add_items(block, num_threads=threads)
        graph.save(str(folder / "graph"))

    def open(self, rows: Rows, folder: Path, threads: int) -> None:
        import voyager

        self._graph = voyager.Index.load(str(folder / "graph"))

    def efforts(self, k: int) -> list[Any]:
        return [effort for effort in EFFORTS if effort >= k]

    def tune(self, effort: Any) -> None:
        self._effort = effort

    def find(self, query: Array, k: int) -> Array:
        found = self._graph.query(query, k, num_threads=1, query_ef=self._effort)[0]
        return np.asarray(found, dtype=np.int64)

    def find_many(self, queries: Array, k: int, threads: int) -> Array:
        found = self._graph.query(queries, k, num_threads=threads, query_ef=self._effort)[0]
        return np.asarray(found, dtype=np.int64)


def _faiss_hnsw(title: str) -> Faiss:
    return Faiss(title, f"HNSW{M},Flat")


WAYS: dict[str, Way] = {
    "pool3": Pool3(1),
    "pool3-16": Pool3(16),
    "hnswlib": Hnswlib(),
    "hnswlib-pca": OnPca(Hnswlib(), "hnswlib on the PCA, re-ranked"),
    "faiss-hnsw": _faiss_hnsw("faiss HNSW, raw"),
    "faiss-hnsw-pca": OnPca(_faiss_hnsw(""), "faiss HNSW on the PCA, re-ranked"),
    "faiss-ivf": Faiss("faiss IVF-Flat", "IVF{lists},Flat", train_rows=50_000),
    "faiss-pq": Faiss(
        "faiss OPQ+IVFPQ fast-scan, refined",
        "OPQ64_128,IVF{lists},PQ64x4fs,Refine(SQfp16)",
        train_rows=50_000,
    ),
    "usearch": Usearch(),
    "voyager": Voyager(),
    "annoy": RawAnnoy(),
    "brute": Exhaustive(),
}
