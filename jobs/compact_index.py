"""compact-index: folds deltas and tombstones of an index into new shards; frees old snapshots.

The rows stay what they are: vectors are copied as they are stored, and reduced as before. Then
what only snapshots need that have expired is deleted.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from pool3 import storage
from pool3.errors import Pool3Error, UsageError
from pool3.features.cleaning import keep_since
from pool3.index.manifest import Manifest
from pool3.index.opening import open_snapshot
from pool3.index.planning import ShardCosts, plan_shards
from pool3.index.publication import (
    newest_entry,
    newest_snapshot,
    next_snapshot,
    publish,
    utc_now,
    write_manifest,
)
from pool3.index.reduction import Reduction
from pool3.index.retention import delete_expired, holdings, staying
from pool3.job import job_parser, run_job, since_start
from pool3.report import Report, new_run_id
from udfs.measure import pick_samples, with_recall
from udfs.shard import ShardSettings, built_shards, with_empty
from udfs.stored import folded, stored_metadata, stored_rows

JOB = "compact-index"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CompactIndexConfig:
    """What compact-index is asked to do; the options of the command line, checked."""

    index: str
    keep_snapshots: int = 3
    grace_hours: float = 72
    max_build_memory_mb: int = 4096
    report: str | None = None

    def __post_init__(self) -> None:
        if self.keep_snapshots < 1:
            raise UsageError(
                f"expected --keep-snapshots of at least 1, found {self.keep_snapshots}"
            )
        if self.max_build_memory_mb < 1:
            raise UsageError(
                f"expected --max-build-memory-mb of at least 1, found {self.max_build_memory_mb}"
            )
        if not (math.isfinite(self.grace_hours) and self.grace_hours >= 0):
            raise UsageError(f"expected --grace-hours of at least 0, found {self.grace_hours}")
        storage.canonical_uri(self.index)

    @property
    def output_uri(self) -> str:
        """The index, canonical."""
        return storage.canonical_uri(self.index)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
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


def configure(arguments: argparse.Namespace) -> CompactIndexConfig:
    """Return the configuration of a parsed command line."""
    return CompactIndexConfig(**vars(arguments))


def run(spark: SparkSession, config: CompactIndexConfig) -> Report:
    """Fold and clean the index; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    published = newest_entry(config.output_uri)
    index, base, reduction = open_snapshot(config.output_uri)
    report.seconds["startup"] = since_start()
    report.model_id = base.model_id
    manifest = base
    if not folded(base):
        with report.timed("build"):
            manifest = _folded(spark, config, base, reduction, report)
        write_manifest(index, manifest)
        publish(index, manifest.snapshot_id, by=report.run_id, why="compacted", after=published)
    _tell(report, base, manifest)
    with report.timed("clean"):
        _clean(config, report)
    return report


def _folded(
    spark: SparkSession,
    config: CompactIndexConfig,
    base: Manifest,
    reduction: Reduction,
    report: Report,
) -> Manifest:
    """Store the live rows in new shards; returns the manifest of the next snapshot."""
    index, parent = config.output_uri, newest_snapshot(config.output_uri)
    snapshot = next_snapshot(parent)
    n_shards = plan_shards(
        max(1, base.rows), _costs(base, reduction), max_memory_mb=config.max_build_memory_mb
    )
    settings = ShardSettings(
        index_uri=index,
        n_trees=base.n_trees,
        seed=base.seed,
        vectors_dtype=base.vectors_dtype,
        added_in=snapshot,
        carried=stored_metadata(index, base.shards),
    )
    rows = stored_rows(spark, index, base.shards, n_shards=n_shards)
    shards = with_empty(built_shards(rows, settings, reduction, n_shards), n_shards)
    manifest = replace(
        base,
        snapshot_id=snapshot,
        parent=parent,
        base=None,
        created_at=utc_now(),
        run_id=report.run_id,
        shards=shards,
    )
    require_same_rows(base, manifest)
    picked = pick_samples(spark, index, manifest)
    return with_recall(spark, index, manifest, reduction, picked=picked)


def _costs(base: Manifest, reduction: Reduction) -> ShardCosts:
    return ShardCosts.of(
        dimension=base.dimension,
        tree_dimension=reduction.tree_dimension,
        n_trees=base.n_trees,
        vectors_dtype=base.vectors_dtype,
    )


def require_same_rows(base: Manifest, manifest: Manifest) -> None:
    """Raise `Pool3Error` when rows were lost or doubled; nothing is published then."""
    rows = sum(shard.live for shard in manifest.shards)
    if rows != base.rows:
        raise Pool3Error(
            f"expected {base.rows} rows, as snapshot {base.snapshot_id} has them, found {rows} in "
            "the new shards; nothing was published: run the job again"
        )


def _tell(report: Report, base: Manifest, manifest: Manifest) -> None:
    report.counts["ok"] = manifest.rows
    report.details.update(
        snapshot_id=manifest.snapshot_id,
        base=base.snapshot_id,
        unchanged=manifest is base,
        shards={"before": len(base.shards), "after": len(manifest.shards)},
        folded={"dead": sum(shard.dead for shard in base.shards)},
    )


def _clean(config: CompactIndexConfig, report: Report) -> None:
    """Delete what no staying snapshot names and nobody may still want."""
    cutoff = keep_since(config.grace_hours)
    held = holdings(config.output_uri)
    stay = staying(held, newest=config.keep_snapshots, since=cutoff)
    doomed = delete_expired(held, stay, before=cutoff)
    sizes = {found.uri: found.size for found in held.objects.values()}
    report.details.update(
        snapshots={"kept": sorted(stay), "expired": sorted(set(held.manifests) - stay)},
        freed={"files": len(doomed), "bytes": sum(sizes[uri] for uri in doomed)},
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
