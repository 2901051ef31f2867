"""Measures recall: the share of the samples' true neighbours that a search of the index returns.

Nothing is searched here. The evidence of all shards is merged as a search merges its candidates, at
each level of effort and for each number of re-ranked rows. A hit is a row that is no farther than
the k-th true neighbour, so any of several equally far rows counts (as in ann-benchmarks, Aumüller
et al., Information Systems 87, 2020).
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
from pool3.index.reduction.tree_space import merge_keys
from pool3.vectors.distances import FloatArray

#: The numbers of re-ranked rows that are measured.
RERANKS = (20, 50, 100, 200, MAX_RERANK)

# Sums over equal vectors may differ in their last bits.
_SLACK = 1e-9

_CERTAIN = {name: {str(k): 1.0 for k in MEASURED_KS} for name in ("recall", "low")}


class ShardEvidence(NamedTuple):
    """One shard: its entry with the levels in `search_k`, its evidence, and its live rows."""

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
        Over all levels and `RERANKS`. A point lacks each k for which no sample has so many stored
        neighbours, or which is larger than its number of re-ranked rows. Where every row is
        measured exactly, recall and its lower bound are 1.

    Raises
    ------
    InvalidIndex
        When the evidence of a shard lacks a sample.
    """
    rows = sum(shard.entry.live for shard in shards)
    complete = np.array([samples.complete_for(k) for k in MEASURED_KS])
    complete = complete.reshape(len(MEASURED_KS), -1)
    shares = _hit_shares(samples, shards, metric)
    points = []
    for level in range(shares.shape[1]):
        all_gathered = all(
            shard.entry.search_k[level] >= n_trees * shard.entry.rows for shard in shards
        )
        for position, rerank in enumerate(RERANKS):
            exact = all_gathered and rerank >= rows
            points.append(
                RecallPoint(
                    level=level,
                    search_k=sum(shard.entry.search_k[level] for shard in shards),
                    rerank=rerank,
                    ms=_milliseconds(shards, level, min(rerank, rows)),
                    **(
                        _CERTAIN
                        if exact
                        else _recalls(shares[:, level, position], complete, rerank)
                    ),
                )
            )
    return RecallCurve(samples=len(samples), rows=rows, points=tuple(points))


def _recalls(
    shares: FloatArray, complete: npt.NDArray[np.bool_], rerank: int
) -> dict[str, dict[str, float]]:
    """Average over the samples with enough stored neighbours, for each k."""
    recall, low = {}, {}
    for position, k in enumerate(MEASURED_KS):
        n = int(complete[position].sum())
        if k <= rerank and n:
            mean = min(1.0, float(shares[complete[position], position].mean()))
            recall[str(k)], low[str(k)] = mean, lower_bound(mean, n)
    return {"recall": recall, "low": low}


def _milliseconds(shards: Sequence[ShardEvidence], level: int, rerank: int) -> float:
    candidates = sum(float(shard.evidence.seconds[level]) for shard in shards)
    a_row = float(np.mean([shard.evidence.row_seconds[0] for shard in shards]))
    return 1000 * (candidates + rerank * a_row)


def _hit_shares(samples: SampleQueries, shards: Sequence[ShardEvidence], metric: str) -> FloatArray:
    """Return the share of the k nearest that are hits, (samples, levels, re-ranks, ks)."""
    n_levels = {len(shard.entry.search_k) for shard in shards}
    if len(n_levels) != 1:
        raise InvalidIndex(f"all shards must state the same levels; found {sorted(n_levels)}")
    live_shards = [_LiveEvidence(shard, samples, metric) for shard in shards]
    shares = np.empty((len(samples), n_levels.pop(), len(RERANKS), len(MEASURED_KS)))
    limits, wanted = _limits(samples)
    for sample in range(len(samples)):
        by_shard = [shard.of(sample) for shard in live_shards]
        keys, exact, first = (np.concatenate(arrays) for arrays in zip(*by_shard, strict=True))
        order = np.argsort(keys, kind="stable")
        hits = exact[order][:, None] <= limits[sample]
        first = first[order]
        for level in range(shares.shape[1]):
            gathered = hits[first <= level][:MAX_RERANK]
            shares[sample, level] = _shares_by_rerank(gathered, wanted[sample])
    return shares


def _limits(samples: SampleQueries) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the distance of the k-th true neighbour, and the number of hits, (samples, ks)."""
    counts = samples.neighbours.counts
    wanted = np.minimum(np.array(MEASURED_KS)[None, :], np.maximum(counts, 1)[:, None])
    limits = np.take_along_axis(samples.neighbours.distances, wanted - 1, axis=1)
    return limits + _SLACK * np.abs(limits), wanted


def _shares_by_rerank(hits: npt.NDArray[np.bool_], wanted: npt.NDArray[np.int64]) -> FloatArray:
    """Return the share of hits among the first rows that are re-ranked, (re-ranks, ks)."""
    counts = np.cumsum(np.vstack([np.zeros((1, len(wanted)), dtype=np.int64), hits]), axis=0)
    reranked = np.minimum(RERANKS, len(hits))
    return np.asarray(np.minimum(counts[reranked], wanted) / wanted)


class _LiveEvidence:
    """The evidence of one shard without deleted rows, with keys that order rows of all shards."""

    def __init__(self, shard: ShardEvidence, samples: SampleQueries, metric: str) -> None:
        entry, evidence, live = shard
        self._keys = merge_keys(
            evidence.reduced.astype(np.float64), metric=metric, max_norm=entry.max_norm
        )
        self._evidence = evidence
        self._is_live = None if live is None else live[evidence.rows]
        places = {key: place for place, key in enumerate(evidence.samples.tolist())}
        try:
            self._places = [places[key] for key in samples.keys.tolist()]
        except KeyError as error:
            raise InvalidIndex(
                f"the evidence of shard {entry.number} must hold all samples of the index; found "
                f"none of the sample with the key {error}: build the index again"
            ) from error

    def of(self, sample: int) -> tuple[FloatArray, FloatArray, npt.NDArray[np.uint8]]:
        """Return merge keys, exact distances and first levels of one sample's rows."""
        place, evidence = self._places[sample], self._evidence
        here = slice(int(evidence.starts[place]), int(evidence.starts[place + 1]))
        keys, exact, first = self._keys[here], evidence.exact[here], evidence.first[here]
        if self._is_live is None:
            return keys, exact, first
        is_live = self._is_live[here]
        return keys[is_live], exact[is_live], first[is_live]
