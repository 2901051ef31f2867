"""What every job does around its work: arguments, logging, exit status, report."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol, TypeVar

from jobs.runtime.prometheus import prometheus_text
from jobs.runtime.report import Report, default_report_uri
from pool3 import errors, storage
from pool3.errors import GateError, Pool3Error, StorageError, UsageError

log = logging.getLogger(__name__)

_STARTED = time.monotonic()
_RAISED_IN_A_TASK = re.compile(r"^pool3\.errors\.(\w+): (.+)$", re.MULTILINE)


class JobConfig(Protocol):
    """What `run_job` needs to know of a job's configuration."""

    @property
    def output_uri(self) -> str:
        """Where the job writes; the report goes beside it."""

    @property
    def report(self) -> str | None:
        """Where the report goes instead, when somebody says so."""


Config = TypeVar("Config", bound=JobConfig)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def job_parser(job: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return a parser whose errors are `UsageError`, with the options that all jobs share."""
    parser = _Parser(
        prog=f"./submit.sh {job}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--report",
        metavar="URI",
        help="where the JSON report goes (default: beside the output, NAME.report.json)",
    )
    return parser


def since_start() -> float:
    """Return the seconds since this process loaded pool3."""
    return time.monotonic() - _STARTED


def run_job(
    job: str,
    argv: Sequence[str],
    *,
    parser: argparse.ArgumentParser,
    configure: Callable[[argparse.Namespace], Config],
    run: Callable[[Config], Report],
) -> int:
    """Run one job from its command line to its report; returns the exit status.

    `run` returns the report; a `Pool3Error` that it raises sets the exit status, and its message is
    the error. The last line on stdout is the report. However the job ends, its figures go where
    ``--metrics-file`` says, in jobs that have the option; those of a mere ``--plan`` do not, since
    they would stand in the place of the last run's.
    """
    _log_to_stderr()
    report = Report(job=job)
    config: Config | None = None
    named = _named_places(parser, argv)
    try:
        arguments = parser.parse_args(argv)
        named = dict(vars(arguments))
        config = configure(arguments)
        report = run(config)
    except Pool3Error as error:
        fail(report, error.exit_code, str(error))
    except Exception as error:
        from_task = _RAISED_IN_A_TASK.search(str(error))
        if from_task is None:
            log.exception("%s failed", job)
            fail(report, 1, f"{type(error).__name__}: {str(error).splitlines()[0]}")
        else:
            fail(report, _exit_code(from_task[1]), from_task[2])
    report.seconds["total"] = since_start()
    _publish(report, config, named)
    return report.exit_code


def _named_places(parser: argparse.ArgumentParser, argv: Sequence[str]) -> dict[str, str | None]:
    """Return where report and metrics shall go as far as a wrong command line tells."""
    tolerant = _Parser(add_help=False, allow_abbrev=False)
    for option in ("--report", "--metrics-file"):
        if option in parser.format_usage():
            tolerant.add_argument(option)
    try:
        return dict(vars(tolerant.parse_known_args(argv)[0]))
    except UsageError:
        return {}


def _exit_code(error_name: str) -> int:
    """Return the exit status of an error that a task raised, known only by its class's name."""
    kind = getattr(errors, error_name, Pool3Error)
    return int(kind.exit_code)


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    for noisy in ("py4j", "tensorflow", "h5py"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def fail(report: Report, exit_code: int, message: str) -> None:
    """Set the outcome of a run that failed or whose gate did not hold, and log why."""
    report.exit_code = exit_code
    report.error = message
    log.error("%s", message)


@contextmanager
def gated(report: Report) -> Iterator[None]:
    """Set the outcome ``gate`` where the block raises `GateError`: the report stays whole."""
    try:
        yield
    except GateError as error:
        fail(report, error.exit_code, str(error))


def _publish(report: Report, config: JobConfig | None, named: Mapping[str, Any]) -> None:
    """Write metrics and report; after wrong arguments only where an option names the place."""
    where = named.get("report")
    if where is None and config is not None and report.exit_code != UsageError.exit_code:
        where = default_report_uri(config.output_uri)
    metrics = None if named.get("plan") else named.get("metrics_file")
    if metrics is not None:
        _put(report, lambda: storage.put(storage.canonical_uri(metrics), _metrics(report)))
    if where is not None:
        _put(report, lambda: report.publish(where))
    print(report.to_json(), flush=True)  # noqa: T201 - the last line on stdout is the contract


def _metrics(report: Report) -> bytes:
    return prometheus_text(report).encode()


def _put(report: Report, put: Callable[[], None]) -> None:
    """Call `put`; what it cannot write makes a run fail that was done."""
    try:
        put()
    except (StorageError, UsageError) as error:
        log.error("the report could not be written: %s", error)
        report.exit_code = report.exit_code or 1
        report.error = report.error or str(error)
