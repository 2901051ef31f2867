"""Counts and seconds of one extraction task, collected while it runs."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, field

MOST_NAMED = 5


class Largest:
    """The inputs with the largest figures.

    Parameters
    ----------
    most
        How many inputs are stored.

    Attributes
    ----------
    entries
        Pairs of figure and uri, in no particular order.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.entries: list[tuple[float, str]] = []

    def add(self, figure: float, uri: str) -> None:
        """Add an input if it is among the largest so far."""
        if len(self.entries) < self._most:
            heapq.heappush(self.entries, (figure, uri))
        else:
            heapq.heappushpop(self.entries, (figure, uri))


@dataclass(slots=True)
class Tally:
    """Counts and seconds of one task.

    Attributes
    ----------
    ok, failed
        Rows with features, and rows with an error.
    copied
        Rows among `ok` whose features were copied instead of computed.
    unchanged
        Ids whose bytes did not change; their rows stay as they are.
    retained
        Ids with a transient failure whose existing ok row stays in the table; they count as failed.
    errors
        Failures by error code.
    seconds
        Wall time by phase.
    slowest, largest
        The inputs that took the most seconds, and those with the most bytes.
    """

    ok: int = 0
    failed: int = 0
    copied: int = 0
    unchanged: list[str] = field(default_factory=list)
    retained: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    slowest: Largest = field(default_factory=lambda: Largest(MOST_NAMED))
    largest: Largest = field(default_factory=lambda: Largest(MOST_NAMED))
