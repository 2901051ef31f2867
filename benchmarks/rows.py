"""Rows for the benchmarks, and measurements in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.vectors import Array

BLOCK_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a file of float32, unit vectors under angular; read, not mapped, block by block."""

    path: Path
    rows: int
    dimension: int
    metric: str

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Array]:
        """Yield the rows of a range in blocks of 32 MB."""
        stop = self.rows if stop is None else stop
        height = BLOCK_BYTES // (4 * self.dimension)
        with self.path.open("rb") as file:
            file.seek(4 * start * self.dimension)
            for at in range(start, stop, height):
                count = min(height, stop - at) * self.dimension
                block = np.fromfile(file, dtype=np.float32, count=count)
                yield block.reshape(-1, self.dimension)

    def some(self, count: int) -> Array:
        """Return the first rows, which are no other than any."""
        return np.concatenate(list(self.blocks(0, min(count, self.rows))))

    def mapped(self) -> Array:
        """Return all rows, memory-mapped."""
        shape = (self.rows, self.dimension)
        return np.memmap(self.path, dtype=np.float32, mode="r", shape=shape)


#: Peak resident memory in MiB of the processes that `in_processes` started, by their ids.
WORKERS_MIB: dict[int, float] = {}


def in_processes(function: Callable[[Any], Any], jobs: list[Any], processes: int) -> list[Any]:
    """Call a function for each of some jobs, in so many fresh processes, each with one core."""
    if processes == 1:
        return [function(job) for job in jobs]
    context = multiprocessing.get_context("spawn")
    found = []
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for result, pid, peak in pool.map(partial(_with_peak, function), jobs):
            found.append(result)
            WORKERS_MIB[pid] = peak
    return found


def _with_peak(function: Callable[[Any], Any], job: Any) -> tuple[Any, int, float]:
    return function(job), os.getpid(), own_peak_mib()


def own_peak_mib() -> float:
    """Return the peak of this process's resident memory.

    Not from getrusage, which begins with what the parent had when it forked.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
