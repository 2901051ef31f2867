"""Processes that work in turn, so that what slows the machine for a while slows all of them alike.

One at a time works; the others sleep. A process asks for each of its turns with `wait_for_turn`,
and the last line that it prints is its answer.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_WAITING = "waiting for a turn"


def wait_for_turn() -> None:
    """Sleep until it is this process's turn."""
    print(_WAITING, flush=True)
    sys.stdin.readline()


def taken_in_turn(
    commands: Mapping[str, Sequence[str]], folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[str, str | None]]:
    """Run commands that wait for their turns; yields the name and answer of each as it ends.

    Parameters
    ----------
    commands
        By name.
    folder
        Where they run.
    environment
        What they run with.

    Yields
    ------
    name, answer
        The last line that it printed; None when it failed.
    """
    running = {
        name: subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, command in commands.items()
    }
    for process in running.values():
        _until_it_waits(process)
    while running:
        for name, process in list(running.items()):
            answer = _turn(process)
            if answer is None:
                continue
            del running[name]
            yield name, None if process.wait() else answer


def _turn(process: subprocess.Popen[str]) -> str | None:
    """Give a process its turn; returns what it printed last when that was its last turn."""
    assert process.stdin is not None
    try:
        process.stdin.write("\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    return _until_it_waits(process)


def _until_it_waits(process: subprocess.Popen[str]) -> str | None:
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        if line.rstrip() == _WAITING:
            return None
        last = line
    return last
