"""The gate of failures, for every job that reads pictures."""

from __future__ import annotations

from collections.abc import Mapping

from pool3.errors import GateError

NOT_A_PICTURE = "not_an_image"


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


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts by code as text, largest first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{code} {count}" for code, count in ranked if count)
