"""Near-duplicates: rows within a distance of each other, and the clusters that they form.

All members of a cluster are within the distance of its representative, so that a chain of small
distances cannot join everything. Deliberately not here: the passes over an index
(`jobs.find_duplicates`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pool3 import storage
from pool3.errors import UsageError
from pool3.images.contact_sheet import Cell, drawn_sheet, fetched_pictures
from pool3.index.recall.effort import Effort
from pool3.index.shards.reader import ShardReader
from pool3.index.snapshots.snapshot import Snapshot
from pool3.search.shard_set import ShardSet

Rows = npt.NDArray[np.int64]

# Candidates that a search requests at first: nearly all rows have none within the threshold.
_FIRST = 8
_GROWTH = 4

#: float16 rounds a number by at most 2^-11 of itself. Twice that for rows of unit length, which are
#: divided by their rounded length, and twice that again for safety.
_ROUNDING = 2.0**-9


def check_threshold(threshold: float, metric: str) -> None:
    """Check a threshold for an index of a metric.

    Raises
    ------
    UsageError
        `threshold` is not a distance, or the metric is ``dot``, under which a row need not be
        nearest to itself.
    """
    if not (math.isfinite(threshold) and threshold >= 0):
        raise UsageError(f"expected --threshold of at least 0, found {threshold}")
    if metric == "dot":
        raise UsageError(
            "expected an index of the metric angular or euclidean, found dot, under which equal "
            "pictures are not near; build one with --metric angular"
        )


def reduced_reach(threshold: float, metric: str, length: float) -> float:
    """Return the largest distance in the reduced space of two rows within `threshold`.

    A projection never lengthens a distance, so it is at most their distance. But stored rows are
    rounded, and rows were reduced before they were rounded.

    Parameters
    ----------
    threshold
        Exact distance; under ``angular`` 1 - cosine, which is half the squared distance of unit
        rows.
    length
        Length of one of the two rows.
    """
    if metric == "angular":
        return math.sqrt(2 * threshold) + _ROUNDING
    return threshold + _ROUNDING * (length + threshold)


@dataclass(frozen=True)
class CloseRows:
    """The rows within the threshold of one row, without the row itself.

    Attributes
    ----------
    ids, distances
        m image_ids, and their exact distances.
    complete
        False when the search reached its limit, so that there may be more.
    """

    ids: list[str]
    distances: list[float]
    complete: bool


class DuplicateSearch:
    """Finds the rows of some shards within a threshold of a row.

    Parameters
    ----------
    snapshot
        Of the whole index.
    numbers
        Which of its shards, ascending.
    effort
        The first effort; a search increases it as long as all its candidates are within reach.
    hidden
        For shards by number, rows that are represented by another row and not to be returned.
    threshold
        See `check_threshold`.
    most
        Most candidates that a search requests from each shard.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        numbers: Sequence[int],
        *,
        effort: Effort,
        hidden: Mapping[int, Rows],
        threshold: float,
        most: int,
    ) -> None:
        self._shards = ShardSet(snapshot, numbers)
        self._n_trees = snapshot.manifest.n_trees
        self._threshold = threshold
        self._most = most
        readers = self._shards.readers
        self._entries = [self._shards.entries(shard, effort) for shard in range(len(readers))]
        self._passing = [_passing(reader, hidden.get(reader.entry.number)) for reader in readers]

    def close_to(self, vector: npt.NDArray[np.float32], own: tuple[int, int]) -> CloseRows:
        """Search with a row's stored vector, float32 (d,); `own` is its shard and the row there."""
        metric = self._shards.metric
        reach = reduced_reach(self._threshold, metric, float(np.linalg.norm(vector)))
        reduced = self._shards.reduce(vector)
        ids: list[str] = []
        distances: list[float] = []
        complete = True
        for shard, reader in enumerate(self._shards.readers):
            rows, complete_in_shard = self._candidates(shard, reduced, reach)
            complete = complete and complete_in_shard
            if own[0] == reader.entry.number:
                rows = rows[rows != own[1]]
            if len(rows):
                measured = self._shards.distances(vector, np.full(len(rows), shard), rows)
                close = measured <= self._threshold
                ids += [self._shards.image_id(shard, int(row)) for row in rows[close]]
                distances += measured[close].tolist()
        return CloseRows(ids, distances, complete)

    def _candidates(self, shard: int, reduced: list[float], reach: float) -> tuple[Rows, bool]:
        """Return the rows of a shard within reach, and whether they are all of them."""
        reader, entries, most = self._shards.readers[shard], self._entries[shard], _FIRST
        while True:
            most = min(most, self._most)
            rows, tree_distances = reader.candidates(
                reduced,
                entries=max(entries, self._n_trees * most),
                most=most,
                at_least=most,
                passing=self._passing[shard],
            )
            close = tree_distances <= reach
            if len(rows) < most or not close.all():
                return rows[close], True
            if most == self._most:
                return rows, False
            most, entries = most * _GROWTH, entries * _GROWTH


def _passing(reader: ShardReader, hidden: Rows | None) -> npt.NDArray[np.bool_] | None:
    if hidden is None:
        return None
    passing = np.ones(reader.entry.rows, np.bool_) if reader.live is None else reader.live.copy()
    passing[hidden] = False
    return passing


def representatives(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Choose representatives: no two of them are a pair, and each cluster has one.

    In the order of ids, an id that is not represented yet becomes the representative of the later
    ids that it is paired with; so the result does not depend on the order of rows. An id that is
    paired only with represented ids before it is in no cluster. Memory: the represented ids.

    Parameters
    ----------
    pairs
        Ids, the smaller first, in ascending order.

    Examples
    --------
    >>> representatives([("a", "b"), ("b", "c"), ("c", "d")])
    ['a', 'c']
    """
    represented: set[str] = set()
    chosen: list[str] = []
    for first, second in pairs:
        if first in represented:
            continue
        if not chosen or chosen[-1] != first:
            chosen.append(first)
        represented.add(second)
    return chosen


def cluster_id(representative_id: str) -> str:
    """Return the id of the cluster of a representative: the same in every run."""
    return hashlib.blake2b(representative_id.encode(), digest_size=16).hexdigest()


def cluster_sheet(size: int, members: Sequence[tuple[str, str, float]]) -> Image.Image:
    """Draw a cluster: the representative apart, then the members with their distances.

    Parameters
    ----------
    size
        How many pictures the cluster has.
    members
        Id, uri and distance of the representative, then of the members to draw.
    """
    pictures = fetched_pictures([uri for _, uri, _ in members])
    cells = [
        Cell(picture, f"{distance:.4f}", storage.name_of(image_id))
        for picture, (image_id, _, distance) in zip(pictures, members, strict=True)
    ]
    first = Cell(cells[0].picture, f"{size} pictures", cells[0].name)
    return drawn_sheet(first, cells[1:])
