"""Measuring recall: what a search of the whole index finds of the samples' true neighbours.

Nothing is searched here. The evidence of all shards is merged as a search merges its candidates, at
each level of effort and each depth of re-ranking. A hit is a row that lies no farther than the k-th
true neighbour: so equally far rows count, whichever of them comes back (as ann-benchmarks counts,
Aumüller et al., Information Systems 87, 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pool3.errors import InvalidIndex
from pool3.index.format.entries import ShardEntry
from pool3.index.format.recall_curve import MEASURED_KS, RecallCurve, RecallPoint, lower_bound
from pool3.index.recall.evidence import MAX_RERANK, Evidence
from pool3.index.recall.samples import SampleQueries
from pool3.index.reduction import merge_keys
from pool3.vectors.distances import FloatArray

#: The depths of re-ranking that are measured.
RERANKS = (20, 50, 100, 200, MAX_RERANK)

# Sums over equal vectors may differ in their last bits.
_SLACK = 1e-9


class ShardEvidence(NamedTuple):
    """One shard: its entry with the levels in `search_k`, its evidence, and which rows live."""

    entry: ShardEntry
    evidence: Evidence
    live: npt.NDArray[np.bool_] | None


def measure(
    samples: SampleQueries, shards: Sequence[ShardEvidence], *, metric: str, n_trees: int
) -> RecallCurve:
    """Compute the recall curve of an index.

    Parameters
    ----------
    samples
        With their true neighbours among the live rows of all shards.
    shards
        Each shard with a live row, in the manifest's order, all with the same number of levels.
    metric, n_trees
        The index's.

    Returns
    -------
    RecallCurve
        Over all levels and `RERANKS`. A k that no sample knows so many neighbours for, or that is
        more than what is re-ranked, is left out. Where every row is measured exactly, recall is 1
        and its lower bound too.

    Raises
    ------
    InvalidIndex
        When the evidence of a shard lacks a sample.
    """
    rows = sum(shard.entry.live for shard in shards)
    known = np.array([samples.knowing(k) for k in MEASURED_KS]).reshape(len(MEASURED_KS), -1)
    found = _found(samples, shards, metric)
    points = []
    for level in range(found.shape[1]):
        entries = [shard.entry.search_k[level] for shard in shards]
        all_seen = all(
            gathered >= n_trees * shard.entry.rows
            for gathered, shard in zip(entries, shards, strict=True)
        )
        for depth, rerank in enumerate(RERANKS):
            shares = found[:, level, depth]
            exact = all_seen and rerank >= rows
            points.append(
                RecallPoint(
                    level=level,
                    search_k=sum(entries),
                    rerank=rerank,
                    ms=_milliseconds(shards, level, min(rerank, rows)),
                    **(_CERTAIN if exact else _recalls(shares, known, rerank)),
                )
            )
    return RecallCurve(samples=len(samples), rows=rows, points=tuple(points))


_CERTAIN = {name: {str(k): 1.0 for k in MEASURED_KS} for name in ("recall", "low")}


def _recalls(
    shares: FloatArray, known: npt.NDArray[np.bool_], rerank: int
) -> dict[str, dict[str, float]]:
    """Average over the samples that know enough, for each k."""
    recall, low = {}, {}
    for at, k in enumerate(MEASURED_KS):
        n = int(known[at].sum())
        if k <= rerank and n:
            mean = min(1.0, float(shares[known[at], at].mean()))
            recall[str(k)], low[str(k)] = mean, lower_bound(mean, n)
    return {"recall": recall, "low": low}


def _milliseconds(shards: Sequence[ShardEvidence], level: int, rerank: int) -> float:
    candidates = sum(float(shard.evidence.seconds[level]) for shard in shards)
    a_row = float(np.mean([shard.evidence.row_seconds[0] for shard in shards]))
    return 1000 * (candidates + rerank * a_row)


def _found(samples: SampleQueries, shards: Sequence[ShardEvidence], metric: str) -> FloatArray:
    """Return what share of the k nearest is found, (samples, levels, re-ranks, ks)."""
    n_levels = {len(shard.entry.search_k) for shard in shards}
    if len(n_levels) != 1:
        raise InvalidIndex(f"all shards must state the same levels; found {sorted(n_levels)}")
    merged = [_LiveEvidence(shard, samples, metric) for shard in shards]
    found = np.empty((len(samples), n_levels.pop(), len(RERANKS), len(MEASURED_KS)))
    limits, wanted = _limits(samples)
    for sample in range(len(samples)):
        parts = [shard.part(sample) for shard in merged]
        keys, exact, first = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(keys, kind="stable")
        hits = exact[order][:, None] <= limits[sample]
        first = first[order]
        for level in range(found.shape[1]):
            gathered = hits[first <= level][:MAX_RERANK]
            found[sample, level] = _counted(gathered, wanted[sample])
    return found


def _limits(samples: SampleQueries) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return how far the k-th true neighbour is, and how many hits are wanted, (samples, ks)."""
    known = samples.neighbours.known
    wanted = np.minimum(np.array(MEASURED_KS)[None, :], np.maximum(known, 1)[:, None])
    limits = np.take_along_axis(samples.neighbours.distances, wanted - 1, axis=1)
    return limits + _SLACK * np.abs(limits), wanted


def _counted(hits: npt.NDArray[np.bool_], wanted: npt.NDArray[np.int64]) -> FloatArray:
    """Return the share of hits among the first rows of each depth, (re-ranks, ks)."""
    counts = np.cumsum(np.vstack([np.zeros((1, len(wanted)), dtype=np.int64), hits]), axis=0)
    depths = np.minimum(RERANKS, len(hits))
    return np.asarray(np.minimum(counts[depths], wanted) / wanted)


class _LiveEvidence:
    """The evidence of one shard without dead rows, with keys that are comparable between shards."""

    def __init__(self, shard: ShardEvidence, samples: SampleQueries, metric: str) -> None:
        entry, evidence, live = shard
        self._keys = merge_keys(
            evidence.reduced.astype(np.float64), metric=metric, max_norm=entry.max_norm
        )
        self._evidence = evidence
        self._alive = None if live is None else live[evidence.rows]
        places = {key: place for place, key in enumerate(evidence.samples.tolist())}
        try:
            self._places = [places[key] for key in samples.keys.tolist()]
        except KeyError as error:
            raise InvalidIndex(
                f"the evidence of shard {entry.number} must hold all samples of the index; found "
                f"none of the sample with the key {error}"
            ) from error

    def part(self, sample: int) -> tuple[FloatArray, FloatArray, npt.NDArray[np.uint8]]:
        """Return keys, exact distances and first levels of one sample's rows."""
        place, evidence = self._places[sample], self._evidence
        here = slice(int(evidence.starts[place]), int(evidence.starts[place + 1]))
        keys, exact, first = self._keys[here], evidence.exact[here], evidence.first[here]
        if self._alive is None:
            return keys, exact, first
        alive = self._alive[here]
        return keys[alive], exact[alive], first[alive]
