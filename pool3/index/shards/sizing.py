"""Number of shards of an index, so that each shard can be built and stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pool3.errors import UsageError
from pool3.index.reduction.pca import Reduction

#: Each query searches the tree of each shard, so shards should be few; but a million rows should
#: have several, which are built in parallel.
ROWS_A_SHARD = 250_000

#: Limit of each file of a shard; some file systems and Annoy's own offsets end at 2 GiB.
MAX_FILE_BYTES = 2_000_000_000

# Rows are assigned to shards by a hash of their ids, so some shards get a few more than others.
_SLACK = 1.05

# Memory of a build task without the tree: Python with its libraries, and blocks of rows in
# float64. Measured: 330 MB at 2048 numbers.
_BASE_BYTES = 400_000_000


@dataclass(frozen=True, kw_only=True)
class ShardCosts:
    """Bytes that a row of a shard costs.

    Attributes
    ----------
    tree_bytes
        In the tree: on disk, and in mapped memory while it is built.
    vector_bytes
        In the file of re-rank vectors, which are written as a stream.
    """

    tree_bytes: float
    vector_bytes: int

    @classmethod
    def of(cls, reduction: Reduction, *, n_trees: int, vectors_dtype: str) -> ShardCosts:
        """Estimate from the lengths of vectors and of reduced vectors; see `estimate`."""
        return cls.estimate(
            dimension=reduction.input_dimension,
            tree_dimension=reduction.tree_dimension,
            n_trees=n_trees,
            vectors_dtype=vectors_dtype,
        )

    @classmethod
    def estimate(
        cls, *, dimension: int, tree_dimension: int, n_trees: int, vectors_dtype: str
    ) -> ShardCosts:
        """Estimate from Annoy's layout.

        A node takes 16 bytes and 4 for each number. Each row is a node. Each tree has as many inner
        nodes as leaves; a leaf has up to `tree_dimension` + 2 rows and is six tenths full.
        """
        node = 16 + 4 * tree_dimension
        leaf_rows = 0.6 * (tree_dimension + 2)
        return cls(
            tree_bytes=node + n_trees * 2 * node / leaf_rows,
            vector_bytes=dimension * (2 if vectors_dtype == "float16" else 4),
        )

    def most_rows(self, max_memory_bytes: int) -> int:
        """Return how many rows one shard may have."""
        by_memory = (max_memory_bytes - _BASE_BYTES) / self.tree_bytes
        by_file = MAX_FILE_BYTES / max(self.tree_bytes, self.vector_bytes)
        return max(0, math.floor(min(by_memory, by_file)))


def plan_shards(
    rows: int, costs: ShardCosts, *, max_memory_mb: int, n_shards: int | None = None
) -> int:
    """Return how many shards rows are assigned to.

    Parameters
    ----------
    rows
        At least 1.
    costs
        Of a row.
    max_memory_mb
        Memory of one build task, in MB of a million bytes.
    n_shards
        The requested number; when None, the smallest that fits with at most `ROWS_A_SHARD` rows in
        a shard.

    Raises
    ------
    UsageError
        When the rows do not fit; the message has the numbers.
    """
    most = costs.most_rows(max_memory_mb * 1_000_000)
    if most < 1:
        raise UsageError(
            f"expected --max-build-memory-mb of at least "
            f"{math.ceil((_BASE_BYTES + costs.tree_bytes) / 1e6)}, found {max_memory_mb}; a build "
            f"task needs {_BASE_BYTES // 1_000_000} MB, and a row {costs.tree_bytes:.0f} bytes more"
        )
    if n_shards is None:
        return math.ceil(rows / min(ROWS_A_SHARD, max(1, math.floor(most / _SLACK))))
    if rows * _SLACK / n_shards > most + 1:
        fewest = math.ceil(rows * _SLACK / most)
        raise UsageError(
            f"expected --n-shards of at least {fewest}, found {n_shards}: of {rows} rows each "
            f"shard would get {math.ceil(rows / n_shards)}, and {most} fit, at "
            f"{costs.tree_bytes:.0f} bytes of trees and {costs.vector_bytes} of vectors a row, "
            f"into {max_memory_mb} MB a build task (--max-build-memory-mb) and "
            f"{MAX_FILE_BYTES / 1e9:g} GB a file"
        )
    return n_shards
