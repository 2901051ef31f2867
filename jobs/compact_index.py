"""compact-index: folds deltas and tombstones of an index into new shards; frees old snapshots.

The rows stay what they are: vectors are copied as they are stored, and reduced as before. Then
what only snapshots need that have expired is deleted.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.compact_index import JOB, CompactIndexConfig, arg_parser, configure
from jobs.runtime.report import Report
from jobs.runtime.run import run_job, since_start
from jobs.steps.index.fold import delete_expired_snapshots, fold
from pool3.index.format.manifest import Manifest
from pool3.index.snapshots.gates import is_folded
from pool3.index.snapshots.publication import (
    newest_entry,
    publish,
    write_manifest,
)
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.storage.names import new_run_id

log = logging.getLogger(__name__)


def run(spark: SparkSession, config: CompactIndexConfig) -> Report:
    """Fold and clean the index; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    published = newest_entry(config.output_uri)
    index, base, reduction = open_snapshot(config.output_uri)
    report.seconds["startup"] = since_start()
    report.model_id = base.model_id
    manifest = base
    if not is_folded(base):
        with report.timed("build"):
            manifest = fold(spark, config, base, reduction, report)
        write_manifest(index, manifest)
        publish(index, manifest.snapshot_id, by=report.run_id, why="compacted", after=published)
    _tell(report, base, manifest)
    with report.timed("clean"):
        delete_expired_snapshots(config, report)
    return report


def _tell(report: Report, base: Manifest, manifest: Manifest) -> None:
    report.counts["ok"] = manifest.rows
    report.details.update(
        snapshot_id=manifest.snapshot_id,
        base=base.snapshot_id,
        unchanged=manifest is base,
        shards={"before": len(base.shards), "after": len(manifest.shards)},
        folded={"dead": sum(shard.dead for shard in base.shards)},
    )


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
