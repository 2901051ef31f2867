"""compact-index: folds deltas and tombstones of an index into new shards; frees old snapshots.

The rows stay what they are: vectors are copied as they are stored, and reduced as before. Then
what only snapshots need that have expired is deleted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.compact_index import JOB, CompactIndexConfig, arg_parser
from jobs.runtime.report import Report
from jobs.runtime.run import since_start
from jobs.steps.index.fold import delete_expired_snapshots, fold
from pool3.index.format.manifest import Manifest
from pool3.index.snapshots.gates import Gates, is_folded
from pool3.index.snapshots.next import NextSnapshot
from pool3.index.snapshots.snapshot import open_snapshot

__all__ = ["arg_parser", "main", "run"]

#: Folding loses no row.
GATES = Gates(max_shrink=0.0)


def run(spark: SparkSession, config: CompactIndexConfig) -> Report:
    """Fold and clean the index; returns the report."""
    report = JOB.report()
    upcoming = NextSnapshot.begin(config.output_uri, report.run_id)
    base = open_snapshot(config.output_uri)
    report.seconds["startup"] = since_start()
    report.model_id = base.manifest.model_id
    manifest = base.manifest
    if not is_folded(manifest):
        with report.timed("build"):
            manifest = fold(spark, base, upcoming, max_memory_mb=config.max_build_memory_mb)
        upcoming.publish(manifest, why="compacted", gates=GATES)
    _fill(report, base.manifest, manifest)
    with report.timed("clean"):
        cleaned = delete_expired_snapshots(
            base.uri, keep_snapshots=config.keep_snapshots, grace_hours=config.grace_hours
        )
    report.details.update(cleaned)
    return report


def _fill(report: Report, base: Manifest, manifest: Manifest) -> None:
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
    return JOB.main(argv, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
