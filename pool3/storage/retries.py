"""Retries: how many, with which pauses, and for which errors."""

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
    """All attempts failed; the cause is the error of the last one."""


def worth_retrying(error: Exception) -> bool:
    """Return whether another attempt may succeed; not after a client error."""
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    if isinstance(error, exceptions.GenericError):
        return _CLIENT_ERROR.search(str(error)) is None
    return isinstance(error, OSError) and error.errno not in _DISK_FULL


def pause_s(failures: int) -> float:
    """Return the pause after some failures: it doubles, with random jitter."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (failures - 1))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def attempt_limit_s(deadline_s: float, left_s: float) -> float | None:
    """Return the time limit of the next attempt, None when too little time is left.

    It is the deadline, halved until it fits: each distinct limit needs a client with its own
    connections, so there should be few of them.
    """
    limits = (deadline_s / 2**halvings for halvings in range(_HALVINGS))
    return next((limit_s for limit_s in limits if limit_s <= left_s), None)


def retried(attempt: Callable[[float], R], *, attempts: int, deadline_s: float) -> R:
    """Call `attempt` until it succeeds, fails permanently, or attempts or time are exhausted.

    Parameters
    ----------
    attempt
        Function of the seconds that it may take at most.
    attempts
        Most attempts.
    deadline_s
        Most seconds for all attempts and the pauses between them.

    Raises
    ------
    Exhausted
        All attempts failed. An error that is not `worth_retrying` is raised as it is.
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
