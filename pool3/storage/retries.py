"""Trying again: how often, how long between, and when it is no use."""

from __future__ import annotations

import errno
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from obstore import exceptions

R = TypeVar("R")

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0

_CLIENT_ERROR = re.compile(r"status code: 4(?!08|29)\d\d\b")
_HALVINGS = 5
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Exhausted(Exception):
    """What was tried again and again did not succeed; the cause is the last attempt's error."""


def worth_retrying(error: Exception) -> bool:
    """Tell whether another attempt may succeed: not when the answer was about the request."""
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    if isinstance(error, exceptions.GenericError):
        return _CLIENT_ERROR.search(str(error)) is None
    return isinstance(error, OSError) and error.errno not in _DISK_FULL


def pause_s(failures: int) -> float:
    """Return how long to wait after so many failures: doubling, and never the same for two."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (failures - 1))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def attempt_limit_s(deadline_s: float, left_s: float) -> float | None:
    """Return how long the next attempt may take, None when too little time is left for one.

    It is the deadline halved as often as it takes to fit, since each distinct limit needs a client
    with connections of its own.
    """
    limits = (deadline_s / 2**halvings for halvings in range(_HALVINGS))
    return next((limit_s for limit_s in limits if limit_s <= left_s), None)


def retried(attempt: Callable[[float], R], *, attempts: int, deadline_s: float) -> R:
    """Call `attempt` until it succeeds, fails for good, or the attempts or the time are used up.

    Parameters
    ----------
    attempt
        Receives the seconds that it may take, and keeps to them.
    attempts
        How often, at most.
    deadline_s
        Most seconds for all attempts and the pauses between them.

    Raises
    ------
    Exhausted
        When giving up; an error that `worth_retrying` denies is raised as it is.
    """
    started = time.monotonic()
    limit_s: float | None = deadline_s
    failures = 0
    while limit_s is not None:
        try:
            return attempt(limit_s)
        except (exceptions.BaseError, OSError) as error:
            if not worth_retrying(error):
                raise
            cause = error
        failures += 1
        if failures == attempts:
            break
        pause = pause_s(failures)
        limit_s = attempt_limit_s(deadline_s, started + deadline_s - time.monotonic() - pause)
        if limit_s is not None:
            time.sleep(pause)
    spent_s = time.monotonic() - started
    raise Exhausted(
        f"given up after {failures} of {attempts} attempts in {spent_s:.1f} s"
    ) from cause
