"""forget: takes pictures out of an index for good: rows, vectors, metadata and thumbnails.

The shards that hold them are written anew without them and published; every other snapshot that
names a file with them expires at once, and the files are deleted. A scan of what is left then
proves that they are gone.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.forget import JOB, ForgetConfig, arg_parser, configure
from jobs.options.shared import ids_named
from jobs.runtime.report import Report
from jobs.runtime.run import run_job, since_start
from jobs.steps.index.find_ids import files_with_ids
from jobs.steps.index.forget import delete, prove, without
from pool3.index.snapshots.publication import (
    newest_entry,
    publish,
    write_manifest,
)
from pool3.index.snapshots.retention import holdings
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.storage.names import new_run_id

log = logging.getLogger(__name__)


def run(spark: SparkSession, config: ForgetConfig) -> Report:
    """Forget pictures; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    ids = ids_named(config.ids, option="--ids")
    published = newest_entry(config.output_uri)
    index, base, reduction = open_snapshot(config.output_uri)
    report.seconds["startup"] = since_start()
    report.model_id = base.model_id
    held = holdings(index)
    found = files_with_ids(spark, held, ids)
    if found:
        manifest = without(spark, index, base, reduction, ids, found.keys(), report.run_id)
        write_manifest(index, manifest)
        publish(index, manifest.snapshot_id, by=report.run_id, why="forgot", after=published)
        report.counts.update(ok=manifest.rows, gone=base.rows - manifest.rows)
        report.details["snapshot_id"] = manifest.snapshot_id
        delete(held, holdings(index), found.keys(), manifest.snapshot_id, report)
    prove(spark, index, ids)
    _tell(report, len(ids), len({name for names in found.values() for name in names or ()}))
    return report


def _tell(report: Report, n_ids: int, n_found: int) -> None:
    """Report what was forgotten, by numbers: the ids themselves are to stand nowhere."""
    report.details["forgotten"] = {"ids": n_ids, "found": n_found}
    report.warnings.append(
        "the next build-index adds the pictures again unless they are erased from the feature "
        "table (compact-features --erase); caches of machines that searched, a bucket that keeps "
        "versions of its objects, a backup or an older report still hold what they held"
    )
    if n_found < n_ids:
        report.warnings.append(
            f"{n_ids - n_found} of {n_ids} ids stood in no file of the index (a file with ids is "
            "named @FILE)"
        )
    for warning in report.warnings:
        log.warning("%s", warning)


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return run_job(
        JOB,
        argv,
        parser=arg_parser(),
        configure=configure,
        run=lambda config: run(SparkSession.builder.appName(JOB).getOrCreate(), config),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
