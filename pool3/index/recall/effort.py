"""Effort of a search: how many leaf entries it gathers and how many rows it re-ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pool3.errors import UsageError

if TYPE_CHECKING:
    from pool3.index.format.entries import ShardEntry
    from pool3.index.format.manifest import Manifest

# Measured on clustered vectors of 2048 numbers (100,000 rows, two shards, 50 trees), recall@10 by
# distance: re-ranking 50 rows 0.985, whatever search_k; 100 rows 1.000 from a search_k of 1000 on;
# 200 rows win nothing and take half as long again. Only re-ranking brings back what PCA loses.
DEFAULT_RERANK = 100

#: The recall that a search aims at by default: the lower end of the measured 95 % interval.
DEFAULT_RECALL = 0.95


@dataclass(frozen=True)
class Effort:
    """The effort of a search.

    Attributes
    ----------
    k
        How many hits are requested.
    rerank
        How many of the nearest candidates in the reduced space, over all shards, are re-ranked by
        their exact distances.
    search_k
        How many entries of the trees' leaves Annoy gathers, over all shards; a row counts once in
        each tree.
    level
        Level of the recall curve: each shard gathers what it states for it (`ShardEntry.search_k`).
        None divides `search_k` among the shards by their rows.
    recall
        The lower end of the measured 95 % interval at this effort; None if it was not measured.
    """

    k: int
    rerank: int
    search_k: int
    level: int | None = None
    recall: float | None = None

    def entries(self, shard: ShardEntry, all_rows: int) -> int:
        """Return how many entries are gathered in one shard."""
        if self.level is not None:
            return shard.search_k[self.level]
        return math.ceil(self.search_k * shard.rows / all_rows)


def choose_effort(
    manifest: Manifest,
    k: int,
    *,
    recall: float | None = None,
    rerank: int | None = None,
    search_k: int | None = None,
) -> Effort:
    """Check the requested effort, and fill in the defaults.

    Parameters
    ----------
    manifest
        Of the open snapshot; its recall curve is used where it has one.
    k
        At least 1.
    recall
        Above 0 and at most 1: selects the cheapest measured point whose lower bound reaches it, or
        the best point if none does. `DEFAULT_RECALL` when None, unless `rerank` or `search_k` is
        given.
    rerank
        At least k; when None, the larger of `DEFAULT_RERANK` and 2 k.
    search_k
        At least 1; when None, `rerank` entries of each tree of each shard.

    Raises
    ------
    UsageError
        For anything else.
    """
    check_count("k", k)
    if recall is not None and (rerank is not None or search_k is not None):
        raise UsageError("search takes either recall or rerank and search_k; found both")
    if recall is not None:
        _check_recall(recall)
    if rerank is None and search_k is None and manifest.recall is not None:
        curve, wanted = manifest.recall, recall or DEFAULT_RECALL
        point = curve.cheapest(k, wanted) or curve.best(k)
        if point is not None:
            low = point.low_at(k)
            return Effort(int(k), point.rerank, point.search_k, point.level, low or None)
    return _explicit_effort(manifest, k, rerank, search_k)


def _explicit_effort(
    manifest: Manifest, k: int, rerank: int | None, search_k: int | None
) -> Effort:
    if rerank is None:
        rerank = max(DEFAULT_RERANK, 2 * k)
    check_count("rerank", rerank)
    if rerank < k:
        raise UsageError(f"rerank must be at least k = {k}; found {rerank}")
    if search_k is None:
        search_k = manifest.n_trees * rerank * max(1, len(manifest.shards))
    check_count("search_k", search_k)
    return Effort(int(k), int(rerank), int(search_k))


def _check_recall(recall: Any) -> None:
    real = isinstance(recall, int | float | np.number) and not isinstance(recall, bool)
    if not real or not 0 < recall <= 1:
        raise UsageError(f"recall must be above 0 and at most 1; found {recall!r}")


def check_count(name: str, value: Any) -> None:
    """Raise `UsageError` unless `value` is a whole number of at least 1."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1; found {value!r}")
