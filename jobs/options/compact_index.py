"""The options of compact-index, checked."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

from jobs.options.shared import IndexConfig, require_counts
from jobs.runtime.job import Job
from jobs.runtime.run import job_parser
from pool3.errors import UsageError

NAME = "compact-index"


@dataclass(frozen=True, kw_only=True)
class CompactIndexConfig(IndexConfig):
    """The configuration of compact-index: the options of its command line, checked."""

    keep_snapshots: int = 3
    grace_hours: float = 72
    max_build_memory_mb: int = 4096

    def __post_init__(self) -> None:
        require_counts(
            {
                "--keep-snapshots": self.keep_snapshots,
                "--max-build-memory-mb": self.max_build_memory_mb,
            }
        )
        if not (math.isfinite(self.grace_hours) and self.grace_hours >= 0):
            raise UsageError(f"expected --grace-hours of at least 0, found {self.grace_hours}")
        super().__post_init__()


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
        "Fold the deltas and the buried rows of the published snapshot into new shards, publish\n"
        "that, and delete what only expired snapshots need. The published snapshot never expires,\n"
        "nor one that was published within --grace-hours: its readers may still be reading.",
        "example:\n"
        "  ./submit.sh compact-index --index s3://lake/index --keep-snapshots 7\n"
        "\nexit status: 0 done, 1 failed (another run published meanwhile, say), 2 wrong arguments",
    )
    parser.add_argument("--index", required=True, metavar="DIR", help="the index")
    parser.add_argument(
        "--keep-snapshots",
        type=int,
        default=CompactIndexConfig.keep_snapshots,
        metavar="N",
        help="the newest N stay, whatever their age (default: %(default)s)",
    )
    parser.add_argument(
        "--grace-hours",
        type=float,
        default=CompactIndexConfig.grace_hours,
        metavar="H",
        help="what was published, or written, within this time stays; no run may take longer "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-build-memory-mb",
        type=int,
        default=CompactIndexConfig.max_build_memory_mb,
        metavar="MB",
        help="as for build-index (default: %(default)s)",
    )
    return parser


JOB = Job(NAME, CompactIndexConfig, arg_parser)
