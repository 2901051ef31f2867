"""How far a search looks: how many rows are wanted, gathered and measured exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pool3.errors import UsageError

# Measured on clustered vectors of 2048 numbers (100,000 rows, two shards, 50 trees), recall@10 by
# distance: re-ranking 50 rows 0.985, whatever search_k; 100 rows 1.000 from a search_k of 1000 on;
# 200 rows win nothing and take half as long again. Only re-ranking brings back what PCA loses.
DEFAULT_RERANK = 100


@dataclass(frozen=True)
class Depth:
    """How far to look.

    Attributes
    ----------
    k
        How many rows are wanted.
    rerank
        How many of the nearest reduced vectors, over all shards, are measured exactly.
    search_k
        How many entries of the trees' leaves Annoy gathers in each shard, each row counted in
        each tree.
    """

    k: int
    rerank: int
    search_k: int


def depth_of(k: int, *, rerank: int | None, search_k: int | None, n_trees: int) -> Depth:
    """Check what a caller asked for, and fill in the defaults.

    Parameters
    ----------
    k
        At least 1.
    rerank
        At least k; `DEFAULT_RERANK`, or 2 k where that is more, when None.
    search_k
        At least 1; `rerank` entries of each tree when None.
    n_trees
        The index's.

    Raises
    ------
    UsageError
        For anything else.
    """
    check_count("k", k)
    if rerank is None:
        rerank = max(DEFAULT_RERANK, 2 * k)
    check_count("rerank", rerank)
    if rerank < k:
        raise UsageError(f"rerank must be at least k = {k}; found {rerank}")
    if search_k is None:
        search_k = n_trees * rerank
    check_count("search_k", search_k)
    return Depth(int(k), int(rerank), int(search_k))


def check_count(name: str, value: Any) -> None:
    """Raise `UsageError` unless `value` is a whole number of at least 1."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1; found {value!r}")
