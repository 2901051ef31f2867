"""The options of publish-index, checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from jobs.runtime.job import Job
from jobs.runtime.run import job_parser
from pool3 import storage
from pool3.errors import UsageError

NAME = "publish-index"


@dataclass(frozen=True, kw_only=True)
class PublishConfig:
    """The configuration of publish-index: the options of its command line, checked."""

    index: str
    snapshot: int
    report: str | None = None

    def __post_init__(self) -> None:
        if self.snapshot < 1:
            raise UsageError(f"expected --snapshot of at least 1, found {self.snapshot}")
        storage.canonical_uri(self.index)

    @property
    def output_uri(self) -> str:
        """The index, canonical."""
        return storage.canonical_uri(self.index)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
        "Publish a snapshot of an index: one that a gate held back, or an older one.",
        "example:\n"
        "  ./submit.sh publish-index --index s3://lake/index --snapshot 41\n"
        "\nexit status: 0 done, 1 failed (another run published at the same moment), 2 wrong\n"
        "arguments, such as a snapshot that has expired (nothing written)",
    )
    parser.add_argument("--index", required=True, metavar="DIR", help="the index")
    parser.add_argument(
        "--snapshot", required=True, type=int, metavar="ID", help="the snapshot's number"
    )
    return parser


JOB = Job(NAME, PublishConfig, arg_parser)
