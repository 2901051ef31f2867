"""Measures the memory of the Python processes below this one."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType


class PeakMemory:
    """Watches, while its block runs, the peak of each Python process that this one leads to.

    Attributes
    ----------
    bytes
        Peak resident memory by process id; this process itself and Java's are left out.
    """

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            for pid in _below(os.getpid()):
                peak = _peak(pid)
                if peak is not None:
                    self.bytes[pid] = max(peak, self.bytes.get(pid, 0))


def _below(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [root]
    while waiting:
        waiting.extend(below := children.get(waiting.pop(), []))
        found.extend(below)
    return found


def _peak(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    if not status.startswith("Name:\tpython") or "VmHWM:" not in status:
        return None
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
