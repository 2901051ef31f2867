"""What build-index reports of a snapshot, and what it advises."""

from __future__ import annotations

from pool3.index.format.manifest import Manifest
from pool3.index.format.recall_curve import MEASURED_KS
from pool3.index.snapshots.gates import best_recall

#: From here on a report says that folding or a new PCA would help.
MANY_DELTAS = 20
MUCH_UNSEEN = 0.25
LEAST_EXPLAINED = 0.8


def snapshot_details(manifest: Manifest) -> dict[str, object]:
    """Return what a report says of a new snapshot."""
    return {
        "snapshot_id": manifest.snapshot_id,
        "base": manifest.base,
        "metric": manifest.metric,
        "dimension": manifest.dimension,
        "reduced_dimension": manifest.reduction.dimension,
        "explained_variance": manifest.reduction.explained_variance,
        "vectors_dtype": manifest.vectors_dtype,
        "n_trees": manifest.n_trees,
        "rows": manifest.rows,
        "dead": sum(shard.dead for shard in manifest.shards),
        "shards": [shard.rows for shard in manifest.shards],
        "bytes": manifest.bytes,
        "table": {"uri": manifest.table.uri, "version": manifest.table.version},
        "recall": {str(k): best_recall(manifest, k) for k in MEASURED_KS},
        "unseen": {
            "rows": manifest.unseen_rows,
            "share": manifest.unseen_rows / max(1, manifest.rows),
            "explained_variance": manifest.unseen_explained_variance,
        },
    }


def advice(manifest: Manifest) -> list[str]:
    """Return what a person should do about a snapshot soon."""
    advice = []
    deltas = len({shard.added_in for shard in manifest.shards}) - 1
    if deltas > MANY_DELTAS:
        advice.append(
            f"{deltas} deltas make {len(manifest.shards)} shards, and each query searches each "
            "of them; run compact-index"
        )
    share = manifest.unseen_rows / max(1, manifest.rows)
    unseen, fitted = manifest.unseen_explained_variance, manifest.reduction.explained_variance
    if share > MUCH_UNSEEN or (unseen is not None and unseen < LEAST_EXPLAINED * fitted):
        advice.append(
            f"the PCA was fitted without {share:.0%} of the rows, and keeps {unseen or 0:.1%} of "
            f"their variance, and {fitted:.1%} of the others'; run with --refit-pca"
        )
    return advice
