"""The options of forget, checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from jobs.options.shared import IndexConfig
from jobs.runtime.job import Job
from jobs.runtime.run import job_parser

NAME = "forget"


@dataclass(frozen=True, kw_only=True)
class ForgetConfig(IndexConfig):
    """The configuration of forget: the options of its command line, checked."""

    ids: str


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
        "Take pictures out of an index for good, with all that it holds of them, and out of every\n"
        "snapshot: older ones that name them expire at once. Erase them from the feature table\n"
        "first (compact-features --erase), or the next build-index adds them again.",
        "example:\n"
        "  ./submit.sh forget --index s3://lake/index --ids @ids.txt\n"
        "\nexit status: 0 done, 1 failed (another run published meanwhile, say: run it again),\n"
        "2 wrong arguments (nothing written)",
    )
    parser.add_argument("--index", required=True, metavar="DIR", help="the index")
    parser.add_argument(
        "--ids",
        required=True,
        metavar="IDS",
        help="image ids with commas between them, or @FILE with one on each line (@FILE.json: a "
        "list of strings, for ids with line feeds)",
    )
    return parser


JOB = Job(NAME, ForgetConfig, arg_parser)
