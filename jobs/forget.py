"""forget: takes pictures out of an index for good: rows, vectors, metadata and thumbnails.

The shards that hold them are written again without them and published; every other snapshot that
names a file with them expires at once, and the files are deleted. A scan of what is left then
proves that they are gone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.forget import JOB, ForgetConfig, arg_parser
from jobs.options.shared import ids_named
from jobs.runtime.report import Report
from jobs.runtime.run import since_start
from jobs.steps.index.find_ids import files_with_ids
from jobs.steps.index.forget import delete_files, require_forgotten, rewrite_without
from pool3.index.snapshots.gates import Gates
from pool3.index.snapshots.next import NextSnapshot
from pool3.index.snapshots.retention import list_index
from pool3.index.snapshots.snapshot import open_snapshot

__all__ = ["arg_parser", "main", "run"]

#: Rows go because somebody asks for it, however many.
GATES = Gates(max_shrink=1.0)


def run(spark: SparkSession, config: ForgetConfig) -> Report:
    """Forget pictures; returns the report."""
    report = JOB.report()
    ids = ids_named(config.ids, option="--ids")
    upcoming = NextSnapshot.begin(config.output_uri, report.run_id)
    base = open_snapshot(config.output_uri)
    report.seconds["startup"] = since_start()
    report.model_id = base.manifest.model_id
    before = list_index(base.uri)
    files = files_with_ids(spark, before, ids)
    if files:
        manifest = rewrite_without(spark, base, upcoming, ids, files.keys())
        upcoming.publish(manifest, why="forgot", gates=GATES)
        report.counts.update(ok=manifest.rows, gone=base.manifest.rows - manifest.rows)
        report.details["snapshot_id"] = manifest.snapshot_id
        report.details.update(
            delete_files(before, list_index(base.uri), files.keys(), manifest.snapshot_id)
        )
    require_forgotten(spark, base.uri, ids)
    _fill(report, len(ids), len({name for names in files.values() for name in names or ()}))
    return report


def _fill(report: Report, n_ids: int, n_forgotten: int) -> None:
    """Report what was forgotten, by numbers: the ids themselves are to stand nowhere."""
    report.details["forgotten"] = {"ids": n_ids, "found": n_forgotten}
    report.warn(
        "the next build-index adds the pictures again unless they are erased from the feature "
        "table (compact-features --erase); caches of machines that searched, a bucket that keeps "
        "versions of its objects, a backup or an older report still hold what they held"
    )
    if n_forgotten < n_ids:
        report.warn(
            f"{n_ids - n_forgotten} of {n_ids} ids stood in no file of the index (a file with ids "
            "is named @FILE)"
        )


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return JOB.main(argv, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
