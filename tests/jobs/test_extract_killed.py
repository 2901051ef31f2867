"""A run that loses its driver, an executor or a Python worker: every row exists exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from PIL import Image

from pool3.storage.tables import open_table
from tests.conftest import REPOSITORY

COUNT = 120

pytestmark = [pytest.mark.slow, pytest.mark.spark]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (20, 10), (number, 7, 255)).save(folder / f"{number:03d}.png")
    return folder


class Run:
    """A run of the job in processes of its own."""

    def __init__(self, master: str, pictures: Path, table: Path, model: str) -> None:
        self.table = table
        paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.jobs.interrupted_run",
                master, str(pictures), str(table), model,
            ],
            cwd=REPOSITORY,
            env={**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def wait_for_commits(self, commits: int) -> None:
        """Wait until the table has a number of versions."""
        for _ in range(1200):
            table = open_table(str(self.table))
            if table is not None and table.version() >= commits - 1:
                return
            assert self._process.poll() is None, "the run ended before it could be disturbed"
            time.sleep(0.1)
        pytest.fail("no commit in two minutes")

    def processes(self, wanted: Callable[[str, int], bool]) -> list[int]:
        """Return the processes of this run with a command line and a parent."""
        result = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                command = (place / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if int(fields[3]) == self._process.pid and wanted(command, int(fields[1])):
                result.append(int(place.name))
        return result

    def kill(self) -> None:
        """Kill the driver's Python, the JVM and all other processes, like a host that fails."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def report(self) -> dict[str, Any]:
        """Wait for the end; returns the report."""
        output, _ = self._process.communicate(timeout=600)
        assert self._process.returncode == 0
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        return report


@pytest.fixture
def begin(pictures: Path, tmp_path: Path, colour_model: str) -> Iterator[Callable[[str], Run]]:
    begun = []

    def begin_run(master: str) -> Run:
        begun.append(Run(master, pictures, tmp_path / "table", colour_model))
        return begun[-1]

    yield begin_run
    for run in begun:
        if run._process.poll() is None:
            run.kill()


def assert_whole(table: Path) -> None:
    rows = DeltaTable(str(table)).to_pyarrow_table(columns=["image_id", "features"]).to_pylist()
    result = {Path(row["image_id"]).name: row["features"] for row in rows}
    assert len(rows) == len(result) == COUNT
    assert result == {f"{number:03d}.png": [number, 7, 255] for number in range(COUNT)}


def test_the_commits_of_a_killed_driver_stay_and_the_next_run_does_the_rest(
    begin: Callable[[str], Run],
) -> None:
    first = begin("local[2]")
    first.wait_for_commits(2)
    first.kill()
    before = DeltaTable(str(first.table)).to_pyarrow_table(columns=["image_id"]).num_rows
    assert 0 < before < COUNT
    report = begin("local[2]").report()
    assert_whole(first.table)
    assert report["counts"] == {"ok": COUNT - before, "failed": 0, "skipped": before, "gone": 0}


def test_a_killed_python_worker_costs_its_task_another_attempt(
    begin: Callable[[str], Run],
) -> None:
    run = begin("local[2,4]")
    run.wait_for_commits(1)
    daemons = run.processes(lambda command, _: "pyspark.daemon" in command)
    workers = run.processes(
        lambda command, parent: "pyspark.daemon" in command and parent in daemons
    )
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    report = run.report()
    assert_whole(run.table)
    assert report["counts"]["ok"] == COUNT
    assert report["workers"] >= 3  # another took its place


def test_a_killed_executor_costs_its_tasks_another_attempt(begin: Callable[[str], Run]) -> None:
    run = begin("local-cluster[2,1,1024]")
    run.wait_for_commits(1)
    executors = run.processes(lambda command, _: "CoarseGrainedExecutorBackend" in command)
    assert len(executors) == 2
    os.kill(executors[0], signal.SIGKILL)
    report = run.report()
    assert_whole(run.table)
    assert report["counts"]["ok"] == COUNT
