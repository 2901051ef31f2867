"""The options of publish-index, checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from jobs.options.shared import IndexConfig, require_counts
from jobs.runtime.job import Job
from jobs.runtime.run import job_parser

NAME = "publish-index"


@dataclass(frozen=True, kw_only=True)
class PublishConfig(IndexConfig):
    """The configuration of publish-index: the options of its command line, checked."""

    snapshot: int

    def __post_init__(self) -> None:
        require_counts({"--snapshot": self.snapshot})
        super().__post_init__()


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
