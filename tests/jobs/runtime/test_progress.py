"""Long stages show how far they are: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

STAGE = """
import itertools, logging, sys, time
from jobs.runtime import progress
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
progress._POLL_S, progress._LINE_EVERY_S = 0.05, 0.1
steps = itertools.count()
with progress.watched("reading", lambda: (min(next(steps), 8), 8), unit="tasks"):
    time.sleep(0.8)
"""


def test_lines_where_stderr_is_no_terminal() -> None:
    result = subprocess.run(
        [sys.executable, "-c", STAGE], capture_output=True, text=True, check=True
    )
    lines = result.stderr.splitlines()
    assert len(lines) > 2
    assert "\r" not in result.stderr
    assert lines[0].startswith("reading: 0 of 8 tasks")
    assert lines[-1].startswith("reading: done, ")
    assert result.stdout == ""


def test_a_bar_on_a_terminal() -> None:
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", STAGE], stderr=end, stdout=end)
    os.close(end)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    assert process.wait(timeout=30) == 0
    assert shown.count(b"\r") > 3
    assert b"8/8" in shown


def test_an_error_in_the_block_is_not_swallowed() -> None:
    broken = STAGE.replace("time.sleep(0.8)", "raise SystemExit(7)")
    result = subprocess.run([sys.executable, "-c", broken], capture_output=True, check=False)
    assert result.returncode == 7
