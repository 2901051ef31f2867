"""What is known of an index's recall: points of effort, and the recall that was measured at each.

Deliberately not here: how it is measured (`pool3.index.recall.estimate`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pool3.errors import InvalidIndex
from pool3.index.format.json_fields import Fields

#: Recall is measured for these numbers of hits.
MEASURED_KS = (1, 10, 100)

_Z_95 = 1.959963984540054


def lower_bound(mean: float, n: int) -> float:
    """Return the lower end of Wilson's 95 % interval of a proportion seen in `n` samples.

    A sample's recall is a share of k hits, not a yes or no, so its variance is at most that of a
    proportion: the bound errs on the safe side (Wilson, JASA 22, 1927).

    Examples
    --------
    >>> round(lower_bound(1.0, 1000), 4), round(lower_bound(0.95, 100), 4)
    (0.9962, 0.8882)
    """
    if n < 1:
        return 0.0
    z2 = _Z_95**2
    middle = mean + z2 / (2 * n)
    margin = _Z_95 * math.sqrt(mean * (1 - mean) / n + z2 / (4 * n * n))
    return max(0.0, (middle - margin) / (1 + z2 / n))


@dataclass(frozen=True, kw_only=True)
class RecallPoint:
    """One effort and what it gave.

    Attributes
    ----------
    level
        Which of the numbers of leaf entries that each shard states (`ShardEntry.search_k`).
    search_k
        Those numbers added up over all shards.
    rerank
        How many candidates were measured exactly.
    ms
        Milliseconds of one core for a query, as measured where the index was built.
    recall, low
        For each k (as text): the mean over the samples, and the lower end of its 95 % interval.
    """

    level: int
    search_k: int
    rerank: int
    ms: float
    recall: Mapping[str, float]
    low: Mapping[str, float]

    def low_at(self, k: int) -> float:
        """Return the lower bound at the smallest measured k of at least `k`; 0 beyond them."""
        return next((low for measured, low in self._lows if measured >= k), 0.0)

    @cached_property
    def _lows(self) -> list[tuple[int, float]]:
        return sorted((int(name), low) for name, low in self.low.items())

    @classmethod
    def read(cls, fields: Fields) -> RecallPoint:
        """Read from JSON."""
        point = cls(
            level=fields.integer("level"),
            search_k=fields.integer("search_k", at_least=1),
            rerank=fields.integer("rerank", at_least=1),
            ms=fields.number("ms"),
            recall=fields.mapping("recall", lambda inner, name: inner.number(name)),
            low=fields.mapping("low", lambda inner, name: inner.number(name)),
        )
        fields.finish()
        if set(point.recall) != set(point.low):
            raise InvalidIndex(f"{fields.where} must state the same k in 'recall' and 'low'")
        return point


@dataclass(frozen=True, kw_only=True)
class RecallCurve:
    """Recall by distance over a grid of efforts.

    Attributes
    ----------
    samples
        How many sample queries were searched with.
    rows
        How many rows the index had then.
    points
        The grid, in no particular order; those with few neighbours known may lack a k.
    """

    samples: int
    rows: int
    points: tuple[RecallPoint, ...]

    @classmethod
    def read(cls, fields: Fields) -> RecallCurve:
        """Read from JSON."""
        curve = cls(
            samples=fields.integer("samples"),
            rows=fields.integer("rows"),
            points=fields.each("points", RecallPoint.read),
        )
        fields.finish()
        return curve

    def cheapest(self, k: int, recall: float) -> RecallPoint | None:
        """Return the cheapest point for k hits whose lower bound reaches `recall`.

        A k between two that were measured counts as the larger; None where no point reaches it, or
        k lies beyond all of them.
        """
        for point in self._by_cost:
            if point.rerank >= k and point.low_at(k) >= recall:
                return point
        return None

    @cached_property
    def _by_cost(self) -> list[RecallPoint]:
        """The points, cheapest first: every search that names no effort looks through them."""
        return sorted(self.points, key=lambda point: (point.ms, point.rerank, point.level))

    def best(self, k: int) -> RecallPoint | None:
        """Return the point with the highest lower bound for k hits, the cheapest of equals."""
        known = [point for point in self.points if point.rerank >= k]
        return max(known, key=lambda point: (point.low_at(k), -point.ms), default=None)
