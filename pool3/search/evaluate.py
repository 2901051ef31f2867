"""Quality of the answers of an index: recall against exact search, and precision by label.

Recall is counted by distance: a hit is right if it is no farther than the true k-th neighbour, so
that ties and duplicates are not errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from pool3.index.format.manifest import Manifest
from pool3.index.format.recall_curve import lower_bound
from pool3.vectors.distances import FloatArray

#: Relative error that the distance of a hit may have. It only covers a change of the kernel, since
#: all paths measure the same distance and tables store all its bits.
_SLACK = 1e-9

#: The hits of one query, best first: image_id and distance.
Hits = Sequence[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over queries, with its 95 % interval (Wilson's, which is rather too wide)."""

    mean: float
    low: float
    high: float
    queries: int

    @classmethod
    def of(cls, shares: Sequence[float]) -> Estimate | None:
        """Estimate from a share, 0 to 1, for each query; None without queries."""
        if not shares:
            return None
        mean, n = float(np.mean(shares)), len(shares)
        return cls(
            mean=mean, low=lower_bound(mean, n), high=1 - lower_bound(1 - mean, n), queries=n
        )

    def as_dict(self) -> dict[str, float]:
        """Return the fields as values for JSON."""
        return asdict(self)


def as_dicts(estimates: Mapping[int, Estimate | None]) -> dict[str, dict[str, float] | None]:
    """Return estimates by k as values for JSON."""
    return {
        str(k): None if estimate is None else estimate.as_dict()
        for k, estimate in estimates.items()
    }


@dataclass(frozen=True)
class TrueDistances:
    """Distances of the true nearest rows of each query, without its own row.

    Attributes
    ----------
    distances
        float64, (q, m): ascending, infinite where there is none.
    radius
        float64, (q,): all rows nearer than this are among them; infinite where they are all rows.
    """

    distances: FloatArray
    radius: FloatArray

    def merged(self, other: TrueDistances) -> TrueDistances:
        """Merge the distances of other rows of the same index."""
        width = self.distances.shape[1]
        together = np.sort(np.concatenate([self.distances, other.distances], axis=1), axis=1)
        radius = np.minimum(self.radius, other.radius)
        more = np.isfinite(together[:, width:]).any(axis=1)
        radius = np.where(more, np.minimum(radius, together[:, width - 1]), radius)
        nearest = together[:, :width]
        return TrueDistances(np.where(nearest <= radius[:, None], nearest, np.inf), radius)

    def recalls(self, answers: Sequence[Hits], k: int) -> list[float]:
        """Return the recall of each query: the share of its k nearest rows that are hits.

        Where there are fewer than k rows, the share of those. Queries without any row, and those
        whose k nearest are not all in `distances`, are left out.

        Examples
        --------
        >>> true = TrueDistances(np.array([[0.1, 0.2, 0.2]]), np.array([0.2]))
        >>> true.recalls([[("a", 0.1), ("b", 0.2), ("c", 0.3)]], 3)
        [0.6666666666666666]
        """
        counts = np.isfinite(self.distances[:, :k]).sum(axis=1)
        complete = (counts == k) | np.isinf(self.radius)
        shares = []
        for query in np.flatnonzero(complete & (counts > 0)).tolist():
            wanted = int(counts[query])
            farthest = self.distances[query, wanted - 1]
            limit = farthest + _SLACK * abs(farthest)
            right = sum(distance <= limit for _, distance in answers[query][:wanted])
            shares.append(right / wanted)
        return shares


def without_own(answers: Sequence[Hits], ids: Sequence[str], k: int) -> list[Hits]:
    """Return the k best hits of each query, without its own id."""
    return [
        [hit for hit in hits if hit[0] != own][:k] for hits, own in zip(answers, ids, strict=True)
    ]


def precision(relevant: Sequence[bool], k: int) -> float:
    """Return the share of the first k hits, or of all where there are fewer, that are relevant."""
    first = relevant[:k]
    return sum(first) / len(first) if first else 0.0


def average_precision(relevant: Sequence[bool], n_relevant: int) -> float:
    """Return the average precision of a ranking with a limited number of hits.

    The sum of the precisions at the ranks of the relevant hits, divided by the number of relevant
    rows that the ranking can have, ``min(n_relevant, len(relevant))``. Its mean over queries is mAP
    (Manning, Raghavan, Schütze, Introduction to Information Retrieval, 8.4).

    Parameters
    ----------
    relevant
        Which hits are relevant, best first.
    n_relevant
        How many relevant rows the index has, without the query's own; at least 1.

    Examples
    --------
    >>> average_precision([True, False, True], n_relevant=2)
    0.8333333333333333
    """
    ranks = np.flatnonzero(relevant) + 1
    most = min(n_relevant, len(relevant))
    return float((np.arange(1, len(ranks) + 1) / ranks).sum() / most) if most else 0.0


def label_scores(
    queries: Sequence[tuple[str, str | None]],
    hits_by_k: Mapping[int, Sequence[Hits]],
    labels: Mapping[str, str | None],
    counts: Mapping[str, int],
) -> tuple[dict[int, Estimate | None], Estimate | None]:
    """Return precision@k for each k, and the mAP of the hits of the largest k.

    Parameters
    ----------
    queries
        Id and label of each query. A query without a label, or whose label no other row of the
        index has, is left out, since no hit could be right.
    hits_by_k
        For each k the hits of every query, without its own row.
    labels
        Labels of hits, and of queries that are rows of the index, by image_id.
    counts
        How many rows of the index have each label.
    """
    precisions: dict[int, list[float]] = {k: [] for k in hits_by_k}
    averages = []
    for query, (query_id, label) in enumerate(queries):
        n_relevant = 0 if label is None else counts.get(label, 0) - (labels.get(query_id) == label)
        if n_relevant < 1:
            continue
        relevant: list[bool] = []
        for k in sorted(hits_by_k):
            relevant = [labels.get(image_id) == label for image_id, _ in hits_by_k[k][query]]
            precisions[k].append(precision(relevant, k))
        averages.append(average_precision(relevant, n_relevant))
    return {k: Estimate.of(values) for k, values in precisions.items()}, Estimate.of(averages)


def drawn_rows(manifest: Manifest, n: int, seed: int) -> Mapping[int, npt.NDArray[np.int64]]:
    """Draw live rows of an index at random, uniformly and without repetition.

    Parameters
    ----------
    n
        How many; all rows where the index has fewer.
    seed
        The same seed draws the same rows of the same snapshot.

    Returns
    -------
    mapping of int to int64 array
        For each shard ascending positions among its live rows, from ``range(shard.live)``.
    """
    drawn = np.random.default_rng(seed).choice(
        manifest.rows, size=min(n, manifest.rows), replace=False
    )
    ends = np.cumsum([shard.live for shard in manifest.shards])
    shards = np.searchsorted(ends, drawn, side="right")
    starts = ends - [shard.live for shard in manifest.shards]
    return {
        int(number): np.sort(drawn[shards == number] - starts[number])
        for number in np.unique(shards)
    }
