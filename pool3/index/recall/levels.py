"""Levels of effort: how many leaf entries a search gathers, over all shards and in each.

Each level takes about twice as long as the one before it. Recall is measured at each level
(`pool3.index.recall.estimate`), and a search uses the cheapest one that reaches its recall.
"""

from __future__ import annotations

from collections.abc import Sequence

from pool3.index.format.entries import ShardEntry

# Leaf entries over all shards. Measured on 100,000 clustered vectors of 2048 numbers with 50 trees,
# re-ranking 100: recall@10 is 1.000 from 1,000 on.
_FIRST_LEVEL = 250
_LAST_LEVEL = 64_000


def levels(rows: int, n_trees: int) -> tuple[int, ...]:
    """Return the levels of effort at which an index is measured.

    Parameters
    ----------
    rows
        Of the whole index.
    n_trees
        Of each shard.

    Returns
    -------
    tuple of int
        Leaf entries over all shards, ascending. In a small index, the last level is all entries.

    Examples
    --------
    >>> levels(100, 10), len(levels(1_000_000, 50))
    ((250, 500, 1000), 9)
    """
    everything = max(1, rows * n_trees)
    doubling = [_FIRST_LEVEL << step for step in range(20) if _FIRST_LEVEL << step <= _LAST_LEVEL]
    return (*(level for level in doubling if level < everything), *_if_small(everything))


def _if_small(everything: int) -> tuple[int, ...]:
    return (everything,) if everything <= _LAST_LEVEL else ()


def shard_search_k(totals: Sequence[int], shard_rows: int, total_rows: int) -> tuple[int, ...]:
    """Return a shard's share of levels, by its rows, rounded up.

    Examples
    --------
    >>> shard_search_k((250, 500), 10, 100)
    (25, 50)
    """
    return tuple(-(-level * shard_rows // total_rows) for level in totals)


def added_search_k(base: Sequence[ShardEntry], rows: int) -> tuple[int, ...]:
    """Return the levels of a shard that is added later: as many entries a row as the base has.

    Parameters
    ----------
    base
        Shards that state their levels; those without rows are ignored.
    rows
        Of the added shard.
    """
    filled = [shard for shard in base if shard.rows]
    totals = [sum(level) for level in zip(*(shard.search_k for shard in filled), strict=True)]
    return shard_search_k(totals, rows, sum(shard.rows for shard in filled))
