"""The gates of an extraction: too many pictures out of reach, or gone."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.steps.gates import counts_text, too_many
from pool3.errors import GateError, Pool3Error
from pool3.extract.task_summary import TaskSummary
from pool3.features.schema import TRANSIENT_ERRORS

FEWEST_TRIED = 20
"""A share of fewer inputs than this is not meaningful."""


def require_reachable(summaries: Sequence[TaskSummary], max_transient: float) -> None:
    """Raise `Pool3Error` when too many pictures could not be fetched; commits stay.

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
            f"expected access to the pictures, found it denied for all {tried} so far; renew the "
            "credentials and run the same command again: it continues where this run stopped"
        )
    if tried >= FEWEST_TRIED and too_many(transient, tried, max_transient):
        raise Pool3Error(
            f"expected at most {max_transient:.1%} of the pictures to be out of reach, found "
            f"{transient} of {tried} ({counts_text(by_code)}); when they can be reached, run the "
            "same command again: it continues where this run stopped (--max-transient sets the "
            "share)"
        )


def require_few_gone(gone: int, n_in_scope: int, max_gone: float) -> None:
    """Raise `GateError` when too many pictures would be marked as gone; nothing was marked."""
    if too_many(gone, n_in_scope, max_gone):
        raise GateError(
            f"expected at most {max_gone:.1%} of the {n_in_scope} pictures in the scope to be "
            f"gone, found {gone}; nothing was changed: check the input, or raise --max-gone"
        )
