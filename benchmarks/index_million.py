"""A million vectors of 2048 numbers: built by the job, searched cold and warm, and added to.

usage: python -m benchmarks.index_million [--rows 1000000] [--added 10000] [--steps table,build,...]

    python -m benchmarks.index_million                  all four steps
    python -m benchmarks.index_million --rows 9000 --added 500    a small trial
    python -m benchmarks.index_million --steps search   measures a built index again

On two cores with nothing beside it: table three minutes, build six, search and add one each.
It needs 24 GB of free disk, and looks before it begins; about 9 GB stay when it has ended.

table   draws clustered vectors, rounded to float16, into a feature table of our own, with the true
        neighbours of 500 queries that are not in it
build   ./submit.sh build-index, 4 GB for a build task, one task a core
search  in a process of its own: opens the index, empties the page cache of its files and asks every
        query once (cold), then each twice more (warm), at the effort that the index states for a
        recall of 0.95; recall@10 is by distance, against the true neighbours
add     writes more vectors to the table, runs build-index again and searches again

Memory is resident and sampled four times a second: `anonymous` is what a process cannot give back,
`all` counts the files that it maps too. `cpu_s` is what the job's processes spent on cores, as far
as those samples tell. Everything lies in build/bench-million, figures.json with it; a step that is
run again replaces its figures.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index_report import progress
from benchmarks.million_table import queries, truth_of, write_table
from benchmarks.process_use import TreeUse, forget_pages, resident_mib
from benchmarks.vectors import BLOCK_ROWS, Array

REPOSITORY = Path(__file__).resolve().parent.parent
WORK = REPOSITORY / "build" / "bench-million"
K = 10
RECALL = 0.95
TASK_MEMORY_MB = 4096
# The table, Spark's shuffle, a task's own files and the index, all at once: measured, and a third.
DISK_BYTES_A_ROW = 24_000
STEPS = ("table", "build", "search", "add")


def build(label: str) -> dict[str, Any]:
    """Run build-index on the table; returns what it took, and the report's figures."""
    report = WORK / f"report-{label}.json"
    command = ["./submit.sh", "build-index", "--features", str(WORK / "table")]
    command += ["--index", str(WORK / "index"), "--report", str(report)]
    command += ["--max-build-memory-mb", str(TASK_MEMORY_MB)]
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    with TreeUse(process.pid) as use:
        status = process.wait()
    seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"build-index ended with status {status}; its log is above")
    told = json.loads(report.read_text())
    names = ("outcome", "seconds", "snapshot_id", "shards", "bytes", "vectors_dtype")
    return {
        "seconds": seconds,
        "cpu_s": use.cpu_s,
        "peak_mib": use.peaks,
        "report": {name: told.get(name) for name in names},
    }


def search() -> dict[str, Any]:
    """Open the index in this process and ask all queries, cold and warm; returns the figures."""
    import pool3

    asked = queries()
    before = resident_mib()
    started = time.perf_counter()
    index = pool3.open(WORK / "index")
    opening_s = time.perf_counter() - started
    opened = resident_mib()
    forget_pages(WORK / "index")
    cold, hits = _asked(index, asked)
    warm = [_asked(index, asked)[0] for _ in range(2)]
    curve = index.manifest.recall
    point = None if curve is None else curve.cheapest(K, RECALL)
    return {
        "rows": len(index),
        "opening_s": opening_s,
        "cold": _quantiles(cold),
        "warm": _quantiles(np.concatenate(warm)),
        "recall": _recall(hits, *truth_of(WORK)),
        "stated": None if point is None else [point.search_k, point.rerank, point.low["10"]],
        "before_mib": before,
        "opened_mib": opened,
        "searched_mib": resident_mib(),
    }


def _asked(index: Any, asked: Array) -> tuple[Array, Array]:
    seconds = np.empty(len(asked))
    hits = np.empty((len(asked), K), dtype=np.int64)
    for at, query in enumerate(asked):
        started = time.perf_counter()
        found = index.search(query, k=K, recall=RECALL)
        seconds[at] = time.perf_counter() - started
        hits[at] = [int(Path(image_id).stem) for image_id in found.ids]
    return seconds, hits


def _quantiles(seconds: Array) -> dict[str, float]:
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    return {"p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99}


def _recall(hits: Array, numbers: Array, far: Array) -> float:
    """Return the share of hits that are no farther than the true tenth, ties counted."""
    near = [
        np.isin(found, known[distance <= distance[K - 1] + 1e-6]).mean()
        for found, known, distance in zip(hits, numbers, far, strict=True)
    ]
    return float(np.mean(near))


def searched() -> dict[str, Any]:
    """Search in a fresh process; returns its figures."""
    command = [sys.executable, "-m", "benchmarks.index_million", "--phase", "search"]
    answer = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def start_anew(rows: int) -> None:
    """Empty the folder, and stop where the disk has too little room."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    free, needed = shutil.disk_usage(WORK).free, rows * DISK_BYTES_A_ROW
    if free < needed:
        raise SystemExit(
            f"expected {needed / 1e9:.0f} GB free for {rows} rows, found {free / 1e9:.0f} GB at "
            f"{WORK}; make room or take fewer --rows"
        )


def keep(name: str, found: dict[str, Any]) -> None:
    """Merge figures into the file."""
    path = WORK / "figures.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    figures[name] = found
    path.write_text(json.dumps(figures, indent=1) + "\n")


def step(name: str, arguments: argparse.Namespace) -> None:
    """Do one step and keep its figures."""
    progress(name)
    if name == "table":
        start_anew(arguments.rows)
        keep("table", write_table(WORK, 0, arguments.rows))
    elif name == "build":
        shutil.rmtree(WORK / "index", ignore_errors=True)
        keep("build", build("full"))
    elif name == "search":
        keep("search", searched())
    else:
        # The first whole block after the rows, so that no row is drawn twice.
        start = math.ceil(arguments.rows / BLOCK_ROWS) * BLOCK_ROWS
        keep("more", write_table(WORK, start, arguments.added))
        keep("add", build("more"))
        keep("search again", searched())


def shown(figures: dict[str, Any]) -> str:
    """Lay the figures out for a person."""
    lines = []
    for name, found in figures.items():
        lines.append(name)
        lines += [f"  {key}: {_rounded(value)}" for key, value in found.items()]
    if "build" in figures and "add" in figures:
        full, more = figures["build"], figures["add"]
        for unit in ("seconds", "cpu_s"):
            ratio = full[unit] / more[unit]
            lines.append(f"adding takes {ratio:.1f} times fewer {unit} than building; 20 claimed")
    return "\n".join(lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return value


def main() -> None:
    """Do the steps that were asked for and print all figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--added", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--steps", default=",".join(STEPS), help="default: %(default)s")
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase:
        print(json.dumps(search()))
        return
    for name in arguments.steps.split(","):
        step(name, arguments)
    print(shown(json.loads((WORK / "figures.json").read_text())))


if __name__ == "__main__":
    main()
