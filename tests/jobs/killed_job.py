"""A job that is killed without warning, all its processes at once, as soon as it has written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import REPOSITORY

LONGEST_S = 240


def killed_at_its_first_file(words: Sequence[str], folder: Path, pattern: str, log: Path) -> None:
    """Run ``submit.sh`` until `folder` has another file of a pattern, and kill it then."""
    present = set(folder.glob(pattern))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [REPOSITORY / "submit.sh", *words],
            env={**os.environ, "POOL3_PYTHON": sys.executable},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        deadline = time.monotonic() + LONGEST_S
        while set(folder.glob(pattern)) == present and time.monotonic() < deadline:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    assert set(folder.glob(pattern)) > present, log.read_text()
