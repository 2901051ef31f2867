"""Peaks of resident memory while something runs: of this process, its JVM and its Python workers.

A thread reads ``/proc``; pages that processes share are counted for each of them, so what is shown
is too much rather than too little.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path


class Peaks:
    """Peak resident memory in MiB, while it is entered.

    Attributes
    ----------
    found
        ``driver_python_mib`` and ``driver_jvm_mib``; of the largest Python worker ``worker_mib``,
        and ``with_decoders_mib`` with all processes below it.
    """

    def __init__(self, *, every_s: float) -> None:
        self._every_s = every_s
        self.found = dict.fromkeys(
            ("driver_python_mib", "driver_jvm_mib", "worker_mib", "with_decoders_mib"), 0.0
        )

    def __enter__(self) -> Peaks:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._every_s):
            for name, value in _resident():
                self.found[name] = max(self.found[name], value)


def _resident() -> Iterator[tuple[str, float]]:
    memory: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    commands: dict[int, bytes] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            stat = (place / "stat").read_text().rpartition(")")[2].split()
            pages = int((place / "statm").read_text().split()[1])
            command = (place / "cmdline").read_bytes()
        except OSError:
            continue
        pid = int(place.name)
        children.setdefault(int(stat[1]), []).append(pid)
        memory[pid], commands[pid] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20, command

    def below(pid: int) -> float:
        return memory.get(pid, 0.0) + sum(below(child) for child in children.get(pid, ()))

    yield "driver_python_mib", memory.get(os.getpid(), 0.0)
    for pid in children.get(os.getpid(), ()):
        if b"java" in commands[pid].partition(b"\0")[0]:
            yield "driver_jvm_mib", memory[pid]
    daemons = [pid for pid, command in commands.items() if b"pyspark.daemon" in command]
    # A worker is a fork of the daemon, under the same command.
    for worker in (pid for daemon in daemons for pid in children.get(daemon, ())):
        yield "worker_mib", memory[worker]
        yield "with_decoders_mib", below(worker)
