"""Gates: conditions that a snapshot must meet before it is published."""

from __future__ import annotations

from dataclasses import dataclass

from pool3.errors import GateError
from pool3.index.format.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The gates that a snapshot passes before it is published.

    Attributes
    ----------
    max_shrink
        The largest share of the published snapshot's rows that the new one may lack, 0 to 1.
    min_recall
        The recall@10 that the best measured effort must reach; None checks nothing.
    """

    max_shrink: float
    min_recall: float | None = None

    def require(self, before: Manifest | None, after: Manifest) -> None:
        """Raise `GateError` for the first gate that does not hold."""
        require_not_shrunk(before, after, self.max_shrink)
        require_recall(after, self.min_recall)


def require_not_shrunk(before: Manifest | None, after: Manifest, max_shrink: float) -> None:
    """Raise `GateError` when an index lost too many rows; the snapshot stays staged.

    Parameters
    ----------
    before
        The published snapshot.
    max_shrink
        The largest share of its rows that may be missing afterwards, 0 to 1.
    """
    if before is None or after.rows >= before.rows * (1 - max_shrink):
        return
    raise GateError(
        f"expected at least {1 - max_shrink:.1%} of the {before.rows} rows of snapshot "
        f"{before.snapshot_id}, found {after.rows}; snapshot {after.snapshot_id} is staged and not "
        "published: check the table, then run publish-index --snapshot "
        f"{after.snapshot_id}, or raise --max-shrink"
    )


def require_recall(after: Manifest, min_recall: float | None, *, k: int = 10) -> None:
    """Raise `GateError` when no measured effort reaches a recall; the snapshot stays staged.

    Parameters
    ----------
    min_recall
        The recall that the best measured point must reach; None checks nothing.
    k
        Number of hits; the largest measured number below it where k itself was not measured.
    """
    if min_recall is None or not after.rows:
        return
    best = best_recall(after, k)
    if best is not None and best >= min_recall:
        return
    measured = "none measured" if best is None else f"{best:.4f} at best"
    raise GateError(
        f"expected a recall@{k} of at least {min_recall} (--min-recall), found {measured}; "
        f"snapshot {after.snapshot_id} is staged and not published: build with more --n-trees or "
        f"with --refit-pca, or run publish-index --snapshot {after.snapshot_id} all the same"
    )


def best_recall(manifest: Manifest, k: int) -> float | None:
    """Return the highest mean recall that was measured for k hits, or for the most below k."""
    points = () if manifest.recall is None else manifest.recall.points
    measured = {int(name) for point in points for name in point.recall}
    measured_k = max((number for number in measured if number <= k), default=None)
    if measured_k is None:
        return None
    name = str(measured_k)
    return max(point.recall[name] for point in points if name in point.recall)


def is_folded(manifest: Manifest) -> bool:
    """Return whether there is nothing to fold: no deleted row, and no shard added later."""
    filled = [entry for entry in manifest.shards if entry.rows]
    return not any(entry.dead for entry in filled) and len({s.added_in for s in filled}) < 2
