"""How good the answers of an index are: recall against exact search, and precision by label.

Recall is counted by distance: a hit is right when it is no farther than the true k-th neighbour, so
that ties and duplicates are no errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from pool3.index.format.manifest import Manifest
from pool3.index.format.recall_curve import lower_bound
from pool3.vectors.distances import FloatArray

#: A found distance may be off by this share: the same two vectors are as far apart on every path,
#: and a table keeps all bits, so it only has to cover a change of the kernel.
_SLACK = 1e-9

#: The hits of one query, best first: image_id and distance.
Hits = Sequence[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over queries, with its 95 % interval (Wilson's, which errs on the wide side)."""

    mean: float
    low: float
    high: float
    queries: int

    @classmethod
    def of(cls, shares: Sequence[float]) -> Estimate | None:
        """Estimate from a share, 0 to 1, for each query; None without any."""
        if not shares:
            return None
        mean, n = float(np.mean(shares)), len(shares)
        return cls(
            mean=mean, low=lower_bound(mean, n), high=1 - lower_bound(1 - mean, n), queries=n
        )

    def as_dict(self) -> dict[str, float]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def as_dicts(estimates: Mapping[int, Estimate | None]) -> dict[str, dict[str, float] | None]:
    """Return estimates by k, ready for JSON."""
    return {
        str(k): None if estimate is None else estimate.as_dict()
        for k, estimate in estimates.items()
    }


@dataclass(frozen=True)
class TrueDistances:
    """How far the true nearest rows of each query are, its own row left out.

    Attributes
    ----------
    distances
        float64, (q, m): ascending, infinite where there is none.
    radius
        float64, (q,): each row that is nearer than this is among them, infinite where they are all
        rows there are.
    """

    distances: FloatArray
    radius: FloatArray

    def merged(self, other: TrueDistances) -> TrueDistances:
        """Merge what is known of other rows of the same index."""
        width = self.distances.shape[1]
        together = np.sort(np.concatenate([self.distances, other.distances], axis=1), axis=1)
        radius = np.minimum(self.radius, other.radius)
        more = np.isfinite(together[:, width:]).any(axis=1)
        radius = np.where(more, np.minimum(radius, together[:, width - 1]), radius)
        kept = together[:, :width]
        return TrueDistances(np.where(kept <= radius[:, None], kept, np.inf), radius)

    def recalls(self, answers: Sequence[Hits], k: int) -> list[float]:
        """Return for each query the share of its k nearest that was found.

        With fewer than k rows to find, of those there are. Queries without any, and those of which
        not all k nearest are known, are left out.

        Examples
        --------
        >>> true = TrueDistances(np.array([[0.1, 0.2, 0.2]]), np.array([0.2]))
        >>> true.recalls([[("a", 0.1), ("b", 0.2), ("c", 0.3)]], 3)
        [0.6666666666666666]
        """
        known = np.isfinite(self.distances[:, :k]).sum(axis=1)
        complete = (known == k) | np.isinf(self.radius)
        shares = []
        for query in np.flatnonzero(complete & (known > 0)).tolist():
            wanted = int(known[query])
            farthest = self.distances[query, wanted - 1]
            limit = farthest + _SLACK * abs(farthest)
            right = sum(distance <= limit for _, distance in answers[query][:wanted])
            shares.append(right / wanted)
        return shares


def without_own(answers: Sequence[Hits], ids: Sequence[str], k: int) -> list[Hits]:
    """Return the k best hits of each query, its own id not among them."""
    return [
        [hit for hit in hits if hit[0] != own][:k] for hits, own in zip(answers, ids, strict=True)
    ]


def precision(relevant: Sequence[bool], k: int) -> float:
    """Return the share of the first k hits that are relevant; of those there are, where fewer."""
    first = relevant[:k]
    return sum(first) / len(first) if first else 0.0


def average_precision(relevant: Sequence[bool], n_relevant: int) -> float:
    """Return the average precision of a ranking that was cut off.

    The precision at the rank of each relevant hit, summed, over how many relevant rows the ranking
    could have held: ``min(n_relevant, len(relevant))``. Its mean over queries is mAP (Manning,
    Raghavan, Schütze, Introduction to Information Retrieval, 8.4).

    Parameters
    ----------
    relevant
        Which hits are relevant, best first.
    n_relevant
        How many relevant rows the index holds, the query's own left out; at least 1.

    Examples
    --------
    >>> average_precision([True, False, True], n_relevant=2)
    0.8333333333333333
    """
    ranks = np.flatnonzero(relevant) + 1
    most = min(n_relevant, len(relevant))
    return float((np.arange(1, len(ranks) + 1) / ranks).sum() / most) if most else 0.0


def label_scores(
    asked: Sequence[tuple[str, str | None]],
    found: Mapping[int, Sequence[Hits]],
    labels: Mapping[str, str | None],
    counts: Mapping[str, int],
) -> tuple[dict[int, Estimate | None], Estimate | None]:
    """Return precision@k for each k, and mAP of the longest answers.

    Parameters
    ----------
    asked
        Id and label of each query. One without a label, or whose label no other row of the index
        has, is left out: nothing that is found could be right.
    found
        For each k the hits of every query, its own row not among them.
    labels
        Of hits, and of queries that are rows of the index, by image_id.
    counts
        How many rows of the index have each label.
    """
    precisions: dict[int, list[float]] = {k: [] for k in found}
    averages = []
    for query, (query_id, label) in enumerate(asked):
        n_relevant = 0 if label is None else counts.get(label, 0) - (labels.get(query_id) == label)
        if n_relevant < 1:
            continue
        relevant: list[bool] = []
        for k in sorted(found):
            relevant = [labels.get(image_id) == label for image_id, _ in found[k][query]]
            precisions[k].append(precision(relevant, k))
        averages.append(average_precision(relevant, n_relevant))
    return {k: Estimate.of(values) for k, values in precisions.items()}, Estimate.of(averages)


def drawn_rows(manifest: Manifest, n: int, seed: int) -> Mapping[int, npt.NDArray[np.int64]]:
    """Draw live rows of an index, each as likely as any other and none twice.

    Parameters
    ----------
    n
        How many; all of them where the index has no more.
    seed
        The same one draws the same rows of the same snapshot.

    Returns
    -------
    mapping of int to int64 array
        For each shard some of ``range(shard.live)``, ascending: positions among its live rows.
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
