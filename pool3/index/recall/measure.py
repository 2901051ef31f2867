"""Measures the recall of the next snapshot, step by step, and stores evidence and samples.

A build on Spark searches the shards in tasks; `with_recall` does all steps in this process.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pool3 import storage
from pool3.index.format.entries import EVIDENCE, FileEntry, ShardEntry
from pool3.index.format.manifest import Manifest
from pool3.index.recall.collect import collect
from pool3.index.recall.estimate import ShardEvidence, measure
from pool3.index.recall.evidence import Evidence
from pool3.index.recall.levels import added_search_k, levels, shard_search_k
from pool3.index.recall.samples import Neighbours, SampleQueries, exact_neighbours, merge_neighbours
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.tombstones import live_mask
from pool3.index.snapshots.snapshot import Snapshot
from pool3.index.snapshots.store import store_bytes
from pool3.vectors.distances import FloatArray


def with_levels(manifest: Manifest, *, remeasure: bool) -> Manifest:
    """Return a manifest in which each shard states its share of each level of effort.

    Parameters
    ----------
    manifest
        Of the next snapshot.
    remeasure
        Whether all shards are measured again. If not, shards with evidence keep it and their
        levels, and the others get as many entries for each row.
    """
    base = [] if remeasure else [shard for shard in manifest.shards if EVIDENCE in shard.files]
    rows = sum(shard.rows for shard in manifest.shards)
    totals = levels(rows, manifest.n_trees)
    shards = []
    for shard in manifest.shards:
        if shard in base or not shard.rows:
            shards.append(shard)
            continue
        search_k = (
            added_search_k(base, shard.rows) if base else shard_search_k(totals, shard.rows, rows)
        )
        files = {kind: file for kind, file in shard.files.items() if kind != EVIDENCE}
        shards.append(replace(shard, search_k=search_k, files=files))
    return replace(manifest, shards=tuple(shards))


def search_shard(
    snapshot: Snapshot,
    reader: ShardReader,
    ids: Sequence[str],
    queries: npt.NDArray[np.float32],
    *,
    within: FloatArray | None = None,
) -> tuple[FileEntry, Neighbours]:
    """Store the evidence of one shard, and return the samples' exact neighbours in it.

    Parameters
    ----------
    snapshot
        The next snapshot.
    reader
        One of its shards, whose entry states its levels; its vectors in a local file.
    ids, queries
        Of the samples: s strings, and float32, (s, d).
    within
        float64, (s,): rows farther than this are not neighbours; None for no limit.

    Returns
    -------
    FileEntry
        The shard's file of evidence, under a name that no other attempt uses.
    Neighbours
        The samples' exact neighbours among the shard's live rows.
    """
    reduction = snapshot.reduction
    neighbours = exact_neighbours(reader, ids, queries, reduction.metric, within=within)
    evidence = collect(reader, reduction, ids, queries, neighbours)
    path = f"shards/{uuid.uuid4().hex}/evidence.safetensors"
    return store_bytes(snapshot.uri, path, evidence.to_bytes()), neighbours


def with_curve(index_uri: str, manifest: Manifest, samples: SampleQueries) -> Manifest:
    """Store the samples; returns the manifest with them and the recall curve from the evidence."""
    shards = [
        ShardEvidence(shard, _evidence(index_uri, shard), live_mask(index_uri, shard))
        for shard in manifest.shards
        if shard.live
    ]
    curve = measure(samples, shards, metric=manifest.metric, n_trees=manifest.n_trees)
    path = f"snapshots/{manifest.snapshot_id:020d}/samples-{uuid.uuid4().hex}.safetensors"
    file = store_bytes(index_uri, path, samples.to_bytes())
    return replace(manifest, samples=file, recall=curve)


def stored_samples(snapshot: Snapshot) -> SampleQueries | None:
    """Return the samples of a snapshot; None if it has none, or a shard of it no evidence."""
    manifest = snapshot.manifest
    measured = all(EVIDENCE in shard.files for shard in manifest.shards if shard.rows)
    if manifest.samples is None or not measured:
        return None
    return SampleQueries.from_bytes(snapshot.files.read(manifest.samples))


def _evidence(index_uri: str, shard: ShardEntry) -> Evidence:
    file = shard.files[EVIDENCE]
    uri = storage.join(index_uri, file.path)
    return Evidence.from_bytes(storage.verified_bytes(uri, sha256=file.sha256, size=file.bytes))


def with_recall(
    snapshot: Snapshot, ids: Sequence[str], queries: npt.NDArray[np.float32]
) -> Manifest:
    """Measure all shards of the next snapshot in this process, one after the other.

    Parameters
    ----------
    snapshot
        The next snapshot, with at least one live row. All files that its manifest names must be
        stored; the manifest need not be.
    ids, queries
        Samples that a `pool3.index.recall.picker.SamplePicker` picked from all rows.

    Returns
    -------
    Manifest
        Of the snapshot, with levels, evidence, samples and recall curve.
    """
    shards, neighbours = [], []
    levelled = with_levels(snapshot.manifest, remeasure=True)
    measured = Snapshot.of(snapshot.uri, levelled, snapshot.reduction)
    for shard in levelled.shards:
        if not shard.live:
            shards.append(shard)
            continue
        reader = ShardReader(measured.shard(shard.number))
        file, neighbours_in_shard = search_shard(measured, reader, ids, queries)
        shards.append(replace(shard, files={**shard.files, EVIDENCE: file}))
        neighbours.append(neighbours_in_shard)
    samples = SampleQueries(tuple(ids), queries, merge_neighbours(neighbours))
    return with_curve(snapshot.uri, replace(levelled, shards=tuple(shards)), samples)
