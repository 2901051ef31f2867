"""Reduced rows and queries in the space of the trees, where ``dot`` has one more column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pool3.vectors.distances import FloatArray, squared_norms


def longest(reduced: npt.NDArray[np.float32]) -> float:
    """Return M, the length of the longest reduced row; 0 without rows."""
    return float(np.sqrt(squared_norms(reduced).max(initial=0.0)))


def tree_rows(
    reduced: npt.NDArray[np.float32], *, metric: str, max_norm: float
) -> npt.NDArray[np.float32]:
    """Return reduced rows as rows of a tree: with the column sqrt(M^2 - |x|^2) under ``dot``.

    Parameters
    ----------
    reduced
        float32, (n, r).
    max_norm
        M of the shard; used under ``dot`` only.

    Returns
    -------
    float32, (n, r) or (n, r + 1)
    """
    if metric != "dot":
        return reduced
    missing = np.sqrt(np.clip(max_norm**2 - squared_norms(reduced), 0.0, None))
    return np.column_stack([reduced, missing.astype(np.float32)])


def tree_query(reduced: npt.NDArray[np.float32], *, metric: str) -> list[float]:
    """Return a reduced query, float32 (r,), as a query of a tree: with a 0 added under ``dot``."""
    numbers: list[float] = reduced.tolist()
    return [*numbers, 0.0] if metric == "dot" else numbers


def merge_keys(tree_distances: FloatArray, *, metric: str, max_norm: float) -> FloatArray:
    """Return keys that order rows of several shards by tree distance, nearest first.

    Under ``dot`` the distance in a tree is sqrt(|q|^2 + M^2 - 2 q.x) with the M of its shard. Its
    square without M^2 orders rows by q.x, whatever their shard.

    Parameters
    ----------
    tree_distances
        float64, (m,).
    max_norm
        M of the shard; used under ``dot`` only.
    """
    return tree_distances**2 - max_norm**2 if metric == "dot" else tree_distances
