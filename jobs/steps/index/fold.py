"""Deltas and tombstones of an index folded into new shards, and expired snapshots deleted."""

from __future__ import annotations

from pyspark.sql import SparkSession

from jobs.steps.index.recall import pick_samples, with_recall
from jobs.steps.index.shards import built_shards, stored_metadata, stored_rows, with_empty
from pool3.errors import Pool3Error
from pool3.features.vacuum import keep_since
from pool3.index.format.manifest import Manifest
from pool3.index.shards.sizing import ShardCosts, plan_shards
from pool3.index.snapshots.next import NextSnapshot
from pool3.index.snapshots.retention import delete_expired, list_index, retained_snapshots
from pool3.index.snapshots.snapshot import Snapshot
from udfs.shards import ShardSettings


def fold(
    spark: SparkSession, base: Snapshot, upcoming: NextSnapshot, *, max_memory_mb: int
) -> Manifest:
    """Store the live rows in new shards; returns the manifest of the next snapshot."""
    index, manifest = base.uri, base.manifest
    costs = ShardCosts.of(
        base.reduction, n_trees=manifest.n_trees, vectors_dtype=manifest.vectors_dtype
    )
    n_shards = plan_shards(max(1, manifest.rows), costs, max_memory_mb=max_memory_mb)
    settings = ShardSettings.like(
        base, added_in=upcoming.number, carried=stored_metadata(index, manifest.shards)
    )
    rows = stored_rows(spark, index, manifest.shards, n_shards=n_shards)
    built = built_shards(rows, settings, base.reduction, n_shards)
    folded = upcoming.folded(manifest, with_empty(built, n_shards))
    require_same_rows(manifest, folded)
    snapshot = Snapshot.of(index, folded, base.reduction)
    return with_recall(spark, snapshot, picked=pick_samples(spark, index, folded))


def require_same_rows(base: Manifest, folded: Manifest) -> None:
    """Raise `Pool3Error` when rows were lost or doubled; nothing is published then."""
    if folded.rows != base.rows:
        raise Pool3Error(
            f"expected {base.rows} rows, as snapshot {base.snapshot_id} has them, found "
            f"{folded.rows} in the new shards; nothing was published: run the job again"
        )


def delete_expired_snapshots(
    index: str, *, keep_snapshots: int, grace_hours: float
) -> dict[str, object]:
    """Delete what no remaining snapshot names and nobody may still read.

    Returns
    -------
    dict
        ``snapshots`` that stayed and that expired, and what was ``freed``, for the report.
    """
    cutoff = keep_since(grace_hours)
    stored = list_index(index)
    stay = retained_snapshots(stored, newest=keep_snapshots, since=cutoff)
    deleted = delete_expired(stored, stay, before=cutoff)
    sizes = {item.uri: item.size for item in stored.objects.values()}
    return {
        "snapshots": {"kept": sorted(stay), "expired": sorted(set(stored.manifests) - stay)},
        "freed": {"files": len(deleted), "bytes": sum(sizes[uri] for uri in deleted)},
    }
