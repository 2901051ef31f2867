"""publish-index: moves the published snapshot of an index forwards or back.

One more entry in the publication log; no file of a snapshot is written or removed. Readers that
opened another snapshot keep it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.options.publish_index import JOB, PublishConfig, arg_parser
from jobs.runtime.report import Report
from jobs.runtime.run import since_start
from pool3.index.snapshots.publication import newest_entry, publish, published_by, read_manifest

__all__ = ["arg_parser", "main", "run"]


def run(config: PublishConfig) -> Report:
    """Publish the snapshot; returns the report."""
    report = JOB.report()
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
    return JOB.main_on_driver(argv, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
