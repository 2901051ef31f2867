"""The gates that several jobs share: too many failures, too low a recall."""

from __future__ import annotations

from collections.abc import Mapping

from pool3.errors import GateError
from pool3.search.evaluate import Estimate

NOT_A_PICTURE = "not_an_image"

#: Recall is gated at so many hits, or fewer where fewer were measured.
GATED_K = 10

#: A share means little among few pictures: up to so many may fail, unless the share is 0 or they
#: are half of all. More than a stray file or two, and few enough to look at one by one.
FEW = 3


def too_many(count: int, total: int, share: float) -> bool:
    """Return whether a count is over a share of a total, and over `FEW` where most are well.

    Examples
    --------
    >>> too_many(1, 10, 0.02), too_many(4, 10, 0.02), too_many(1, 10, 0.0), too_many(2, 3, 0.02)
    (False, True, True, True)
    """
    few = share > 0 and count <= FEW and 2 * count < total
    return count > share * total and not few


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
        The largest share of failures; see `too_many`.
    unit, note
        For the error: what was counted, such as ``pictures``, and where the results are.
    """
    failures = {code: count for code, count in errors.items() if code != NOT_A_PICTURE}
    failed = sum(failures.values())
    if too_many(failed, ok + failed, max_failed):
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
