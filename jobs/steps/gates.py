"""The gates that several jobs share: too many failures, too low a recall."""

from __future__ import annotations

from collections.abc import Mapping

from pool3.errors import GateError
from pool3.search.evaluate import Estimate

NOT_A_PICTURE = "not_an_image"

#: Recall is gated at so many hits, or fewer where fewer were measured.
GATED_K = 10


def require_few_failed(
    ok: int, errors: Mapping[str, int], max_failed: float, *, unit: str, note: str
) -> None:
    """Raise `GateError` when too many pictures failed.

    Parameters
    ----------
    ok
        How many succeeded.
    errors
        Failures by error code; files that are not pictures do not count.
    max_failed
        The largest share of failures.
    unit, note
        For the error: what was counted, such as ``pictures``, and where the results are.
    """
    failures = {code: count for code, count in errors.items() if code != NOT_A_PICTURE}
    failed = sum(failures.values())
    if failed > max_failed * (ok + failed):
        raise GateError(
            f"expected at most {max_failed:.1%} of the {unit} to fail, found {failed} of "
            f"{ok + failed} ({counts_text(failures)}); {note} (--max-failed sets the share)"
        )


def require_sample_recall(
    recall: Mapping[int, Estimate | None], min_recall: float, *, snapshot: int
) -> None:
    """Raise `GateError` when the recall of sample queries is too low, or was not measured.

    Parameters
    ----------
    recall
        By k; that of the largest k up to `GATED_K` counts.
    snapshot
        Number of the snapshot, for the error.
    """
    k = max(k for k in recall if k <= GATED_K)
    estimate = recall[k]
    mean = 0.0 if estimate is None else estimate.mean
    if mean < min_recall:
        raise GateError(
            f"expected recall@{k} of at least {min_recall}, found {mean:.4f} in snapshot "
            f"{snapshot}; search with a higher --recall, or build with more trees (--min-recall "
            "sets the limit)"
        )


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts by code as text, largest first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{code} {count}" for code, count in ranked if count)
