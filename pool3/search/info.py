"""Description of an index as plain values, for people and for JSON."""

from __future__ import annotations

from typing import Any

from pool3.index.format.manifest import Manifest
from pool3.index.format.recall_curve import MEASURED_KS, RecallCurve
from pool3.index.recall.effort import DEFAULT_RECALL


def index_info(uri: str, manifest: Manifest) -> dict[str, Any]:
    """Return a description of an index.

    Parameters
    ----------
    uri
        Canonical uri of the index's root.
    manifest
        The snapshot's.

    Returns
    -------
    dict
        Names to plain values; None where a value is missing. ``recall`` has the recall of a search
        with default effort for each measured k, and ``unseen_share`` is the share of the rows that
        the PCA was not fitted to.
    """
    first = min((shard.added_in for shard in manifest.shards), default=1)
    return {
        "uri": uri,
        "snapshot_id": manifest.snapshot_id,
        "created_at": manifest.created_at,
        "run_id": manifest.run_id,
        "rows": manifest.rows,
        "counts": dict(manifest.counts),
        "metric": manifest.metric,
        "dimension": manifest.dimension,
        "reduced_dimension": manifest.reduction.dimension,
        "explained_variance": manifest.reduction.explained_variance,
        "n_trees": manifest.n_trees,
        "n_shards": len(manifest.shards),
        "n_delta_shards": sum(shard.added_in > first for shard in manifest.shards),
        "tombstones": sum(shard.dead for shard in manifest.shards),
        "unseen_share": manifest.unseen_rows / manifest.rows if manifest.rows else 0.0,
        "unseen_explained_variance": manifest.unseen_explained_variance,
        "vectors_dtype": manifest.vectors_dtype,
        "bytes": manifest.bytes,
        "model_id": manifest.model_id,
        "searches_pictures": manifest.model is not None,
        "table": manifest.table.uri,
        "table_version": manifest.table.version,
        "recall": None if manifest.recall is None else _recall(manifest.recall),
    }


def _recall(curve: RecallCurve) -> dict[str, Any]:
    measured: dict[str, Any] = {"samples": curve.samples, "rows": curve.rows}
    for k in MEASURED_KS:
        point = curve.cheapest(k, DEFAULT_RECALL) or curve.best(k)
        if point is not None and str(k) in point.recall:
            measured[f"at_{k}"] = {
                "recall": point.recall[str(k)],
                "low": point.low[str(k)],
                "ms": point.ms,
                "search_k": point.search_k,
                "rerank": point.rerank,
            }
    return measured
