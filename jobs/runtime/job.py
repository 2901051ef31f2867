"""The declaration of a job: its name, its options, and how a main runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from jobs.runtime.report import Report
from jobs.runtime.run import Config, run_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Job(Generic[Config]):
    """One job, as its options declare it.

    Attributes
    ----------
    name
        As ``submit.sh`` knows it, with dashes.
    config
        The class of its configuration: the options of the command line, checked.
    arg_parser
        Makes the parser; each option is named like a field of `config`.
    """

    name: str
    config: Callable[..., Config]
    arg_parser: Callable[[], argparse.ArgumentParser]

    def report(self) -> Report:
        """Return the empty report of a run that begins now."""
        return Report(job=self.name)

    def main(self, argv: Sequence[str], run: Callable[[SparkSession, Config], Report]) -> int:
        """Run the job on Spark from its command line to its report; returns the exit status."""
        return self.main_on_driver(argv, lambda config: run(_session(self.name), config))

    def main_on_driver(self, argv: Sequence[str], run: Callable[[Config], Report]) -> int:
        """Run a job that needs no Spark session; returns the exit status."""
        return run_job(
            self.name,
            argv,
            parser=self.arg_parser(),
            configure=lambda arguments: self.config(**vars(arguments)),
            run=run,
        )


def _session(name: str) -> SparkSession:
    from pyspark.sql import SparkSession  # noqa: PLC0415 - a wrong option starts no JVM

    return SparkSession.builder.appName(name).getOrCreate()
