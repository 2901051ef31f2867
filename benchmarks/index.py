"""Recall and speed of pool3's search beside other libraries, on the same vectors in one run.

usage: python -m benchmarks.index [--data clustered,features,bigann10k] [--threads 1,2]
                                  [--ways pool3,hnswlib,...] [--rows N] [--queries N]
                                  [--only build|search|report]

    python -m benchmarks.index                           everything
    python -m benchmarks.index --rows 3000 --queries 50  a small trial of everything
    python -m benchmarks.index --data clustered --ways pool3,hnswlib,hnswlib-pca --threads 1
    python -m benchmarks.index --only search             measures again what stands built
    python -m benchmarks.index --only report             prints the tables and draws again

On one core of two, with nothing beside it, a generated set took 29 minutes to build with one thread
and 17 to search, without faiss' product quantizer, which was stopped after 18 minutes of training;
the three ways above took 8 minutes to build. bigann10k took seven, five of them that quantizer's.
What was built with two threads is searched with one as well, so that this gives the same figures
sooner, with only the build of what is compared built twice:

    python -m benchmarks.index --threads 2
    python -m benchmarks.index --threads 1 --only search
    python -m benchmarks.index --threads 1 --only build --ways pool3,pool3-16,hnswlib,hnswlib-pca

It needs 14 GB of disk below build/ and 4 GB of memory.

Each way builds in a process of its own and searches in another, both pinned to as many cores as
they are given threads. Those that search take turns, each asking every query at every effort before
the next one does, so that what slows the machine for a while slows all of them. `build s`, `cpu s`
and `peak MiB` are of the building process, which reads its rows from a file block by block; `cpu s`
is what it and the processes that it started spent on cores, and does not grow when something else
takes them. `search MiB` is the searching one's peak of resident memory, what it maps included.
Queries are asked one at a time, Python included, in three rounds, or in one at an effort that takes
more than 20 ms a query; `p50` and `p99` are of one query at the effort that reaches the recall,
straight lines drawn between the efforts measured. `many/s` is the way's own batched search.
Recall@10 is by distance: a row counts when it is no farther than the true tenth neighbour, whatever
distance the way itself states.

Figures are kept in build/bench-index/figures.json, each way's on its own, so that a run can be made
in parts: what is measured again replaces what was there. Plots lie beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index_report import printed, progress
from benchmarks.index_rivals import WAYS
from benchmarks.index_turns import taken_in_turn, wait_for_turn
from benchmarks.index_ways import Way
from benchmarks.rows import WORKERS_MIB, Rows, own_peak_mib
from benchmarks.vectors import GENERATORS, Array, drawn, queries_of

REPOSITORY = Path(__file__).resolve().parent.parent
WORK = REPOSITORY / "build" / "bench-index"
ROWS = 100_000
QUERIES = 500
K = 10
ROUNDS = 3
# An effort whose queries take longer is asked in one round alone.
SLOW_S = 0.02
# Distances are compared as far as float32 vectors of unit length tell them apart.
SLACK = 1e-6


def prepared(data: str, rows: int) -> Path:
    """Draw rows and queries and measure the truth, once; returns their folder."""
    folder = WORK / f"{data}-{rows}"
    if (folder / "truth.npy").exists():
        return folder
    progress(f"drawing {data}")
    folder.mkdir(parents=True, exist_ok=True)
    generator = GENERATORS[data]
    written = 0
    with (folder / "rows.f32").open("wb") as file:
        for block in drawn(generator, rows):
            written += len(block)
            file.write(_scaled(block, generator.metric).tobytes())
    queries = _scaled(queries_of(generator, QUERIES), generator.metric)
    np.save(folder / "queries.npy", queries)
    facts = {"rows": written, "dimension": generator.dimension, "metric": generator.metric}
    (folder / "facts.json").write_text(json.dumps(facts))
    np.save(folder / "truth.npy", true_distances(opened(folder), queries))
    return folder


def _scaled(vectors: Array, metric: str) -> Array:
    if metric != "angular":
        return np.ascontiguousarray(vectors, dtype=np.float32)
    wide = vectors.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def opened(folder: Path) -> Rows:
    """Return the rows of a prepared folder."""
    return Rows(path=folder / "rows.f32", **json.loads((folder / "facts.json").read_text()))


def true_distances(rows: Rows, queries: Array) -> Array:
    """Return the squared distance of each query's true k-th neighbour, float64 (n,)."""
    more = 4 * K
    found = np.full((len(queries), more), np.inf)
    numbers = np.full((len(queries), more), -1)
    start = 0
    for block in rows.blocks():
        far = (block * block).sum(axis=1) - 2 * (queries @ block.T)
        far = np.concatenate([found, far], axis=1)
        here = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        best = np.argpartition(far, more - 1, axis=1)[:, :more]
        numbers = np.take_along_axis(np.concatenate([numbers, here], axis=1), best, axis=1)
        found = np.take_along_axis(far, best, axis=1)
        start += len(block)
    exact = squared_distances(rows, queries, numbers)
    return np.sort(exact, axis=1)[:, K - 1]


def squared_distances(rows: Rows, queries: Array, numbers: Array) -> Array:
    """Return exact squared distances of queries to some rows each, float64; none is infinite."""
    mapped = rows.mapped()
    exact = np.full(numbers.shape, np.inf)
    for query, chosen, far in zip(queries.astype(np.float64), numbers, exact, strict=True):
        # A row that is named twice counts once.
        _, first = np.unique(chosen, return_index=True)
        first = first[chosen[first] >= 0]
        far[first] = ((mapped[chosen[first]] - query) ** 2).sum(axis=1)
    return exact


def recall_of(rows: Rows, queries: Array, truth: Array, numbers: Array) -> float:
    """Return the share of places that hold a row no farther than the true k-th neighbour."""
    exact = squared_distances(rows, queries, numbers)
    return float((exact <= truth[:, None] * (1 + SLACK) + SLACK**2).mean())


def build(way: Way, rows: Rows, folder: Path, threads: int) -> dict[str, Any]:
    """Build one way's files in this process; returns the figures."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    started = time.perf_counter()
    way.build(rows, folder, threads)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    spent = os.times()
    cpu_s = sum(spent[:4])
    return {"seconds": seconds, "cpu_s": cpu_s, "bytes": size, "peak_mib": peak_mib()}


def search(way: Way, rows: Rows, folder: Path, threads: int, count: int) -> dict[str, Any]:
    """Ask one way `count` queries at each of its efforts, in this process; returns the figures."""
    parent = folder.parent
    queries, truth = (np.load(parent / f"{name}.npy")[:count] for name in ("queries", "truth"))
    started = time.perf_counter()
    way.open(rows, folder, threads)
    opening_s = time.perf_counter() - started
    tried = [Tried(effort) for effort in way.efforts(K)]
    for _ in range(ROUNDS):
        wait_for_turn()
        for one in tried:
            if not one.is_slow:
                one.ask(way, queries, threads)
    peak = peak_mib()
    points = [one.figures(rows, queries, truth) for one in tried]
    return {"opening_s": opening_s, "peak_mib": peak, "points": points}


class Tried:
    """One effort of a way, and what came of it."""

    def __init__(self, effort: Any) -> None:
        self.effort = effort
        self.numbers = np.empty((0, K), dtype=np.int64)
        self.seconds: list[Array] = []
        self.many_s: list[float] = []

    @property
    def is_slow(self) -> bool:
        """Whether a query of the round before took too long for another round."""
        return bool(self.seconds) and float(np.median(self.seconds[-1])) > SLOW_S

    def ask(self, way: Way, queries: Array, threads: int) -> None:
        """Ask all queries at once, and then one after the other."""
        way.tune(self.effort)
        way.find_many(queries[:50], K, threads)  # pages and caches; not timed
        started = time.perf_counter()
        way.find_many(queries, K, threads)
        self.many_s.append(time.perf_counter() - started)
        self.numbers = np.full((len(queries), K), -1)
        seconds = np.empty(len(queries))
        for at, query in enumerate(queries):
            started = time.perf_counter()
            found = way.find(query, K)
            seconds[at] = time.perf_counter() - started
            self.numbers[at, : len(found)] = found
        self.seconds.append(seconds)

    def figures(self, rows: Rows, queries: Array, truth: Array) -> dict[str, Any]:
        """Return the effort, its recall, and what it takes."""
        return {
            "effort": self.effort,
            "many_per_s": len(queries) / float(np.median(self.many_s)),
            **quantiles(np.concatenate(self.seconds)),
            "recall": recall_of(rows, queries, truth, self.numbers),
        }


def quantiles(seconds: Array) -> dict[str, float]:
    """Return median, 99th percentile and mean in milliseconds."""
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    return {"p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99, "mean_ms": 1e3 * float(seconds.mean())}


def peak_mib() -> float:
    """Return the peak of resident memory of this process and, added up, those that built for it."""
    return own_peak_mib() + sum(WORKERS_MIB.values())


def measured(arguments: argparse.Namespace, data: str, threads: int) -> None:
    """Measure all ways on one data set, in processes of their own, and keep what they say."""
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
    }
    ways = arguments.ways.split(",")
    for phase in ("build", "search"):
        if arguments.only not in (None, phase):
            continue
        # Builds one after the other, searches in turn.
        together = [[way] for way in ways] if phase == "build" else [ways]
        for some in together:
            commands = {way: _command(arguments, data, way, threads, phase) for way in some}
            progress(f"{data}, {threads} threads, {phase}: {', '.join(some)}")
            for way, answer in taken_in_turn(commands, REPOSITORY, environment):
                if answer is None:
                    progress(f"{way} failed; left out")
                else:
                    keep(f"{data}/{arguments.rows}/{way}/{threads}", phase, json.loads(answer))


def _command(
    arguments: argparse.Namespace, data: str, way: str, threads: int, phase: str
) -> list[str]:
    """Return the command of one phase of one way."""
    names = {"data": data, "ways": way, "threads": threads, "phase": phase}
    names.update(rows=arguments.rows, queries=arguments.queries)
    flags = [part for name, value in names.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "benchmarks.index", *flags]


def keep(key: str, phase: str, found: dict[str, Any]) -> None:
    """Merge figures into the file."""
    path = WORK / "figures.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    figures.setdefault(key, {})[phase] = found
    path.with_suffix(".new").write_text(json.dumps(figures, indent=1) + "\n")
    path.with_suffix(".new").replace(path)


def one_phase(arguments: argparse.Namespace) -> None:
    """Do one phase of one way in this process, pinned to its cores, in its turns."""
    threads = int(arguments.threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    parent = WORK / f"{arguments.data}-{arguments.rows}"
    wait_for_turn()
    subject = WAYS[arguments.ways], opened(parent), parent / arguments.ways, threads
    found = build(*subject) if arguments.phase == "build" else search(*subject, arguments.queries)
    print(json.dumps(found))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--data", default=",".join(GENERATORS), help="default: %(default)s")
    made.add_argument("--threads", default="1,2", help="default: %(default)s")
    made.add_argument("--ways", default=",".join(WAYS), help="default: %(default)s")
    made.add_argument("--rows", type=int, default=ROWS, help="at most (default: %(default)s)")
    made.add_argument("--queries", type=int, default=QUERIES, help=f"at most {QUERIES} (default)")
    made.add_argument("--only", choices=("build", "search", "report"))
    made.add_argument("--phase", help=argparse.SUPPRESS)
    return made


def main() -> None:
    """Measure what was asked for, print the tables and draw the plots."""
    arguments = parser().parse_args()
    if arguments.phase:
        one_phase(arguments)
        return
    for data in arguments.data.split(",") if arguments.only != "report" else ():
        prepared(data, arguments.rows)
        for threads in map(int, arguments.threads.split(",")):
            measured(arguments, data, threads)
    figures = json.loads((WORK / "figures.json").read_text())
    print(printed(figures, arguments.rows, WORK))


if __name__ == "__main__":
    main()
