"""The options of compact-features, validated."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

from jobs.options.shared import require_counts
from jobs.runtime.job import Job
from jobs.runtime.run import job_parser
from pool3 import storage
from pool3.errors import UsageError

NAME = "compact-features"


@dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """The options of compact-features, validated."""

    table: str
    target_file_mb: int = 256
    erase: str | None = None
    keep_hours: float = 168
    report: str | None = None

    def __post_init__(self) -> None:
        require_counts({"--target-file-mb": self.target_file_mb})
        if not (math.isfinite(self.keep_hours) and self.keep_hours >= 0):
            raise UsageError(f"expected --keep-hours of at least 0, found {self.keep_hours}")
        storage.canonical_uri(self.table)

    @property
    def output_uri(self) -> str:
        """Canonical uri of the table."""
        return storage.canonical_uri(self.table)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
        "Merge the small files of a feature table, delete what only versions older than\n"
        "--keep-hours need and what killed runs left, and write a checkpoint of its log. With\n"
        "--erase, the rows of some ids are physically gone afterwards: from every file, from the\n"
        "log, and at once; later runs of extract-features skip these ids.",
        "examples:\n"
        "  ./submit.sh compact-features --table s3://lake/features\n"
        "  ./submit.sh compact-features --table s3://lake/features --erase @ids.txt\n"
        "\nexit status: 0 done, 1 failed (another run is writing, say), 2 wrong arguments\n"
        "(nothing written)",
    )
    parser.add_argument("--table", required=True, metavar="TABLE", help="the feature table")
    parser.add_argument(
        "--target-file-mb",
        type=int,
        default=CompactConfig.target_file_mb,
        metavar="MB",
        help="files under half of this are merged into files of about this (default: %(default)s)",
    )
    parser.add_argument(
        "--erase",
        metavar="IDS",
        help="image ids with commas between them, or @FILE with one on each line (@FILE.json: a "
        "list of strings, for ids with line feeds). Versions of the table before this run "
        "cannot be read any more",
    )
    parser.add_argument(
        "--keep-hours",
        type=float,
        default=CompactConfig.keep_hours,
        metavar="H",
        help="versions that were current in this time stay readable (default: %(default)s)",
    )
    return parser


JOB = Job(NAME, CompactConfig, arg_parser)
