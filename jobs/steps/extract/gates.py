"""What has to hold of a run before its outcome is called done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pool3.errors import GateError, Pool3Error
from pool3.extract.task_summary import TaskSummary
from pool3.features.schema import TRANSIENT_ERRORS

NOT_A_PICTURE = "not_an_image"
FEWEST_TRIED = 20
"""A share of fewer inputs than this says nothing."""


def require_reachable(summaries: Sequence[TaskSummary], max_transient: float) -> None:
    """Raise `Pool3Error` when too much could not be fetched; what was done stays committed.

    Parameters
    ----------
    summaries
        All tasks so far.
    max_transient
        The largest share of inputs with a transient failure.
    """
    tried = sum(task.inputs for task in summaries)
    by_code = {
        code: sum(task.errors.get(code, 0) for task in summaries)
        for code in sorted(TRANSIENT_ERRORS)
    }
    transient = sum(by_code.values())
    if transient and by_code["denied"] == tried:
        raise Pool3Error(
            f"expected access to the pictures, found it denied for all {tried} tried so far; renew "
            "the credentials and run the same command again: it goes on where this run stopped"
        )
    if tried >= FEWEST_TRIED and transient > max_transient * tried:
        raise Pool3Error(
            f"expected at most {max_transient:.1%} of the pictures to be out of reach, found "
            f"{transient} of {tried} ({_listed(by_code)}); when they can be reached, run the same "
            "command again: it goes on where this run stopped (--max-transient sets the share)"
        )


def require_few_failed(ok: int, errors: Mapping[str, int], max_failed: float) -> None:
    """Raise `GateError` when too many pictures failed; files that are no pictures do not count."""
    failures = {code: count for code, count in errors.items() if code != NOT_A_PICTURE}
    failed = sum(failures.values())
    if failed > max_failed * (ok + failed):
        raise GateError(
            f"expected at most {max_failed:.1%} of the pictures to fail, found {failed} of "
            f"{ok + failed}: {_listed(failures)}; all rows are in the table, the reasons in the "
            "column error_detail (--max-failed sets the share)"
        )


def require_few_gone(gone: int, held: int, max_gone: float) -> None:
    """Raise `GateError` when too many pictures would be marked as gone; nothing was marked."""
    if gone > max_gone * held:
        raise GateError(
            f"expected at most {max_gone:.1%} of the {held} pictures in the scope to be gone, "
            f"found {gone}; nothing was changed: check the input, or raise --max-gone"
        )


def _listed(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{code} {count}" for code, count in ranked if count)
