"""What processes and all below them use: resident memory and cores; the page cache of files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

EVERY_S = 0.25


class TreeUse:
    """What all processes below one use.

    Attributes
    ----------
    peaks
        MiB: of the largest process of each kind, and of all together.
    """

    def __init__(self, root: int) -> None:
        self.peaks: dict[str, float] = {}
        self._cpu_s: dict[int, float] = {}
        self._root = root
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def cpu_s(self) -> float:
        """Seconds that they spent on cores; the last quarter of a second of each may be missing."""
        return sum(self._cpu_s.values())

    def __enter__(self) -> TreeUse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(EVERY_S):
            now = {"all processes, all": 0.0}
            for pid, kind, memory in _below(self._root):
                self._cpu_s[pid] = _cpu_s(pid) or self._cpu_s.get(pid, 0.0)
                for name, mib in memory.items():
                    key = f"{kind}, {name}"
                    now[key] = max(now.get(key, 0.0), mib)
                now["all processes, all"] += memory["all"]
            for key, mib in now.items():
                self.peaks[key] = max(self.peaks.get(key, 0.0), round(mib))


def _below(root: int) -> list[tuple[int, str, dict[str, float]]]:
    """Return id, kind and memory of each process below one."""
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        if facts := _stat(int(place.name)):
            parents[int(place.name)] = int(facts[1])
    wanted, found = {root}, []
    for pid in sorted(parents):
        line, at = [pid], pid
        while at in parents and parents[at] not in line:
            at = parents[at]
            line.append(at)
        if wanted.intersection(line):
            found.append(pid)
    return [(pid, kind, memory) for pid in found for kind, memory in _described(pid)]


def _stat(pid: int) -> list[str]:
    """Return what the system states of a process after its name; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_s(pid: int) -> float:
    """Return the seconds that a process spent on cores, those of its children left out."""
    ticks = _stat(pid)[11:13]  # for itself, and in the system for it
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _described(pid: int) -> list[tuple[str, dict[str, float]]]:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        memory = resident_mib(pid)
    except (OSError, StopIteration):
        return []
    if b"pyspark.daemon" in command:
        return [("Python worker", memory)]
    is_java = b"java" in command.partition(b"\0")[0]
    return [("JVM" if is_java else "driver's Python", memory)]


def resident_mib(pid: int | str = "self") -> dict[str, float]:
    """Return the resident memory of a process: `anonymous`, and `all` with the files it maps."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    kib = {name: int(status.get(name, "0 kB").split()[0]) for name in ("VmRSS", "RssAnon")}
    return {"all": kib["VmRSS"] / 1024, "anonymous": kib["RssAnon"] / 1024}


def forget_pages(folder: Path) -> None:
    """Ask the system to drop what it holds of the files of a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
