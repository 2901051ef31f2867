"""The gates on shares: a few pictures among few pass, and a share of 0 lets none pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jobs.steps.extract.gates import require_few_gone, require_reachable
from jobs.steps.gates import require_few_failed
from pool3.errors import GateError, Pool3Error

#: Count, total and whether the gate holds at a share of 2 %.
CASES = [
    (0, 0, True), (1, 10, True), (1, 49, True), (3, 30, True), (3, 7, True), (4, 30, False),
    (3, 6, False), (1, 1, False), (1, 2, False), (20, 1000, True), (21, 1000, False),
]  # fmt: skip


@pytest.mark.parametrize(("failed", "total", "holds"), CASES)
def test_a_few_failures_pass_where_most_pictures_are_well(
    failed: int, total: int, holds: bool
) -> None:
    errors = {"truncated": failed, "not_an_image": 500}
    if holds:
        require_few_failed(total - failed, errors, 0.02, unit="pictures", note="rows")
        require_few_gone(failed, total, 0.02)
        return
    with pytest.raises(GateError, match=f"found {failed} of {total}.*--max-failed"):
        require_few_failed(total - failed, errors, 0.02, unit="pictures", note="rows")
    with pytest.raises(GateError, match=f"the {total} pictures.*found {failed}.*--max-gone"):
        require_few_gone(failed, total, 0.02)


def test_a_share_of_zero_lets_none_pass() -> None:
    with pytest.raises(GateError):
        require_few_failed(1000, {"truncated": 1}, 0.0, unit="pictures", note="rows")
    with pytest.raises(GateError):
        require_few_gone(1, 1000, 0.0)


@pytest.mark.parametrize(("transient", "share"), [(3, 0.05), (4, 0.05), (1, 0.0)])
def test_a_few_pictures_out_of_reach_do_not_stop_a_run(transient: int, share: float) -> None:
    task: Any = SimpleNamespace(inputs=25, errors={"fetch_failed": transient})
    if (transient, share) == (3, 0.05):
        require_reachable([task], share)
        return
    with pytest.raises(Pool3Error, match=f"found {transient} of 25"):
        require_reachable([task], share)
