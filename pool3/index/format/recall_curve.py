"""The recall curve of an index: levels of effort, and the recall that was measured at each.

Deliberately not here: how recall is measured (`pool3.index.recall.estimate`).
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
    """Return the lower end of Wilson's 95 % interval of a proportion observed in `n` samples.

    A sample's recall is a share of k hits, not a yes or no, so its variance is at most that of a
    proportion, and the true interval is no wider (Wilson, JASA 22, 1927).

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
    """Recall at one effort.

    Attributes
    ----------
    level
        Position in each shard's list of leaf entries to gather (`ShardEntry.search_k`).
    search_k
        Leaf entries to gather at that level, over all shards.
    rerank
        How many candidates are re-ranked by their exact distances.
    ms
        Milliseconds of one core for a query, measured where the index was built.
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
        """Return the lower bound at the smallest measured k that is at least `k`; 0 without one."""
        return next((low for measured, low in self._lows if measured >= k), 0.0)

    @cached_property
    def _lows(self) -> list[tuple[int, float]]:
        return sorted((int(name), low) for name, low in self.low.items())

    @classmethod
    def read(cls, fields: Fields) -> RecallPoint:
        """Read from JSON."""
        point = fields.finish(
            cls(
                level=fields.integer("level"),
                search_k=fields.integer("search_k", at_least=1),
                rerank=fields.integer("rerank", at_least=1),
                ms=fields.number("ms"),
                recall=fields.mapping("recall", lambda by_k, k: by_k.number(k)),
                low=fields.mapping("low", lambda by_k, k: by_k.number(k)),
            )
        )
        if set(point.recall) != set(point.low):
            raise InvalidIndex(
                f"{fields.where} must state the same k in 'recall' and 'low'; found "
                f"{sorted(point.recall)} and {sorted(point.low)}"
            )
        return point


@dataclass(frozen=True, kw_only=True)
class RecallCurve:
    """Recall, counted by distance, over a grid of efforts.

    Attributes
    ----------
    samples
        How many sample queries were measured.
    rows
        How many rows the index had then.
    points
        The grid, in no particular order. A point may lack a k for which too few true neighbours
        were stored.
    """

    samples: int
    rows: int
    points: tuple[RecallPoint, ...]

    @classmethod
    def read(cls, fields: Fields) -> RecallCurve:
        """Read from JSON."""
        return fields.finish(
            cls(
                samples=fields.integer("samples"),
                rows=fields.integer("rows"),
                points=fields.each("points", RecallPoint.read),
            )
        )

    def cheapest(self, k: int, recall: float) -> RecallPoint | None:
        """Return the cheapest point for k hits whose lower bound reaches `recall`.

        A k between two measured ones counts as the larger. None where no point reaches `recall`, or
        k is larger than all that were measured.
        """
        for point in self._by_cost:
            if point.rerank >= k and point.low_at(k) >= recall:
                return point
        return None

    @cached_property
    def _by_cost(self) -> list[RecallPoint]:
        """The points, cheapest first: each search without an explicit effort reads them."""
        return sorted(self.points, key=lambda point: (point.ms, point.rerank, point.level))

    def best(self, k: int) -> RecallPoint | None:
        """Return the point with the highest lower bound for k hits, the cheapest of equals."""
        candidates = [point for point in self.points if point.rerank >= k]
        return max(candidates, key=lambda point: (point.low_at(k), -point.ms), default=None)
