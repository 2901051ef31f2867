"""What the jobs, ``pool3`` and ``submit.sh`` offer on the command line."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import import_module

import pytest

from tests.contract.parsers import options_text, sub_commands
from tests.contract.pinned import REPOSITORY, check

JOBS = (
    "build-index",
    "compact-features",
    "compact-index",
    "evaluate-index",
    "extract-features",
    "find-duplicates",
    "forget",
    "import-model",
    "publish-index",
    "search-batch",
)
COMMANDS = ("export", "info", "search")
COLUMNS = "100"

_RUN_POOL3 = "import sys; from pool3.cli import run; sys.argv = ['pool3', *sys.argv[1:]]; run()"
_IMPORT_JOBS = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name).arg_parser().format_help()
from pyspark import SparkContext
assert SparkContext._gateway is None and SparkContext._active_spark_context is None
"""


def ran(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository, on a terminal as wide as these tests want it."""
    fixed = {"COLUMNS": COLUMNS, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **fixed},  # the locale decides in which order bash lists files
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def pool3(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the console script, by the entry point that pyproject.toml names."""
    return ran(sys.executable, "-c", _RUN_POOL3, *arguments)


def both(help_text: str, parser: argparse.ArgumentParser) -> str:
    """Return the help, and under it the options as parsed."""
    return f"{help_text}\n--- as parsed ---\n{options_text(parser)}"


@pytest.fixture
def pool3_parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that ``pool3`` parses its command line with, wherever it is made."""
    from pool3.cli import run

    used: list[argparse.ArgumentParser] = []

    def keep(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        used.append(parser)
        parser.exit()

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", keep)
    monkeypatch.setattr(sys, "argv", ["pool3"])
    with pytest.raises(SystemExit):
        run()
    return used[0]


@pytest.mark.parametrize("job", JOBS)
def test_a_job_offers_what_is_on_record(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", COLUMNS)
    parser = import_module(f"jobs.{job.replace('-', '_')}").arg_parser()
    check(f"help/{job}.txt", both(parser.format_help(), parser))


@pytest.mark.parametrize("job", JOBS)
def test_a_job_leaves_with_2_when_its_arguments_are_wrong(
    job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_module(f"jobs.{job.replace('-', '_')}").main(["--no-such-option"]) == 2
    assert '"outcome": "usage"' in capsys.readouterr().out.splitlines()[-1]


def test_a_job_that_is_looked_at_starts_no_jvm() -> None:
    names = [f"jobs.{job.replace('-', '_')}" for job in JOBS]
    done = ran(sys.executable, "-c", _IMPORT_JOBS, *names)
    assert (done.returncode, done.stderr) == (0, "")


def test_there_are_no_other_jobs() -> None:
    files = (REPOSITORY / "jobs").glob("[a-z]*.py")
    assert sorted(file.stem.replace("_", "-") for file in files) == list(JOBS)


def test_pool3_has_no_other_commands(pool3_parser: argparse.ArgumentParser) -> None:
    assert sorted(sub_commands(pool3_parser)) == list(COMMANDS)


def test_pool3_offers_what_is_on_record(pool3_parser: argparse.ArgumentParser) -> None:
    done = pool3("--help")
    assert (done.returncode, done.stderr) == (0, "")
    check("help/pool3.txt", both(done.stdout, pool3_parser))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_pool3_offers_what_is_on_record(
    command: str, pool3_parser: argparse.ArgumentParser
) -> None:
    done = pool3(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    check(f"help/pool3-{command}.txt", both(done.stdout, sub_commands(pool3_parser)[command]))


def test_pool3_leaves_with_2_when_its_arguments_are_wrong() -> None:
    done = pool3("search", "--no-such-option")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pool3: ")


def test_submit_offers_what_is_on_record() -> None:
    done = ran("bash", "./submit.sh", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    check("help/submit.txt", done.stdout)
