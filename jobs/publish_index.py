"""publish-index: moves the published snapshot of an index forwards or back.

One more entry in the publication log; no file of a snapshot is written or removed. Readers that
opened another snapshot keep it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pool3 import storage
from pool3.errors import UsageError
from pool3.index.publication import newest_entry, publish, published_by, read_manifest
from pool3.job import job_parser, run_job, since_start
from pool3.report import Report, new_run_id

JOB = "publish-index"


@dataclass(frozen=True, kw_only=True)
class PublishConfig:
    """What publish-index is asked to do; the options of the command line, checked."""

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
        JOB,
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


def configure(arguments: argparse.Namespace) -> PublishConfig:
    """Return the configuration of a parsed command line."""
    return PublishConfig(**vars(arguments))


def run(config: PublishConfig) -> Report:
    """Publish the snapshot; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    report.seconds["startup"] = since_start()
    index = config.output_uri
    entry = newest_entry(index)
    before = published_by(index, entry) if entry else None
    manifest = read_manifest(index, config.snapshot)
    report.model_id = manifest.model_id
    report.details.update(
        snapshot_id=config.snapshot, rows=manifest.rows, before=before, unchanged=True
    )
    report.counts["ok"] = manifest.rows
    if before != config.snapshot:
        why = f"asked for in the place of {before}"
        publish(index, config.snapshot, by=report.run_id, why=why, after=entry)
        report.details["unchanged"] = False
    return report


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return run_job(JOB, argv, parser=arg_parser(), configure=configure, run=run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
