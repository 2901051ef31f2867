"""Deltas and tombstones of an index folded into new shards, and expired snapshots deleted."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import SparkSession

from jobs.options.compact_index import CompactIndexConfig
from jobs.runtime.report import Report
from jobs.steps.index.recall import pick_samples, with_recall
from jobs.steps.index.shards import built_shards, stored_metadata, stored_rows, with_empty
from pool3.errors import Pool3Error
from pool3.features.vacuum import keep_since
from pool3.index.format.manifest import Manifest
from pool3.index.reduction import Reduction
from pool3.index.shards.sizing import ShardCosts, plan_shards
from pool3.index.snapshots.publication import newest_snapshot, next_snapshot, utc_now
from pool3.index.snapshots.retention import delete_expired, holdings, staying
from udfs.shards import ShardSettings


def fold(
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


def delete_expired_snapshots(config: CompactIndexConfig, report: Report) -> None:
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
