"""The steps by which a snapshot-to-be learns its recall, and the files that they leave.

A build on Spark searches the shards in tasks; `with_recall` takes all steps in this process.
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
    """Return a manifest whose every shard states its part of each level of effort.

    Parameters
    ----------
    manifest
        Of the snapshot-to-be.
    remeasure
        Whether all shards are to be measured again. Otherwise those with evidence keep it and their
        levels, and the others are given as much for a row.
    """
    base = [] if remeasure else [shard for shard in manifest.shards if EVIDENCE in shard.files]
    rows = sum(shard.rows for shard in manifest.shards)
    totals = levels(rows, manifest.n_trees)
    shards = []
    for shard in manifest.shards:
        if shard in base or not shard.rows:
            shards.append(shard)
            continue
        part = shard_search_k(totals, shard.rows, rows)
        search_k = added_search_k(base, shard.rows) if base else part
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
    """Store what one shard finds for the samples, and tell what it should find.

    Parameters
    ----------
    snapshot
        The snapshot-to-be.
    reader
        One of its shards, whose entry states its levels; its vectors in a local file.
    ids, queries
        Of the samples: s strings, and float32, (s, d).
    within
        float64, (s,): up to which distance neighbours are of interest; None for no limit.

    Returns
    -------
    The shard's file of evidence, under a name that no other attempt uses, and the samples' exact
    neighbours among its live rows.
    """
    reduction = snapshot.reduction
    metric = reduction.metric
    part = exact_neighbours(reader, ids, queries, metric, within=within)
    evidence = collect(
        reader, reduction, ids, queries, part, entries=reader.entry.search_k, metric=metric
    )
    path = f"shards/{uuid.uuid4().hex}/evidence.safetensors"
    file = store_bytes(snapshot.uri, path, evidence.to_bytes())
    return file, part


def with_curve(index_uri: str, manifest: Manifest, samples: SampleQueries) -> Manifest:
    """Return a manifest with the recall that its shards' evidence gives, and store the samples."""
    shards = [
        ShardEvidence(shard, _evidence(index_uri, shard), live_mask(index_uri, shard))
        for shard in manifest.shards
        if shard.live
    ]
    curve = measure(samples, shards, metric=manifest.metric, n_trees=manifest.n_trees)
    path = f"snapshots/{manifest.snapshot_id:020d}/samples-{uuid.uuid4().hex}.safetensors"
    stored = store_bytes(index_uri, path, samples.to_bytes())
    return replace(manifest, samples=stored, recall=curve)


def stored_samples(index_uri: str, manifest: Manifest) -> SampleQueries | None:
    """Return the samples of a snapshot, None where they or a shard's evidence are missing."""
    measured = all(EVIDENCE in shard.files for shard in manifest.shards if shard.rows)
    if manifest.samples is None or not measured:
        return None
    return SampleQueries.from_bytes(_read(index_uri, manifest.samples))


def _evidence(index_uri: str, shard: ShardEntry) -> Evidence:
    return Evidence.from_bytes(_read(index_uri, shard.files[EVIDENCE]))


def _read(index_uri: str, file: FileEntry) -> bytes:
    uri = storage.join(index_uri, file.path)
    return storage.verified_bytes(uri, sha256=file.sha256, size=file.bytes)


def with_recall(
    snapshot: Snapshot, ids: Sequence[str], queries: npt.NDArray[np.float32]
) -> Manifest:
    """Measure all shards of a snapshot-to-be in this process, one after the other.

    Parameters
    ----------
    snapshot
        Its manifest is not written yet; at least one live row, and all files that it names are
        stored.
    ids, queries
        What a `pool3.index.recall.picker.SamplePicker` kept of all rows.

    Returns
    -------
    Manifest
        That of the snapshot with levels, evidence, samples and recall.
    """
    shards, parts = [], []
    levelled = with_levels(snapshot.manifest, remeasure=True)
    measured = Snapshot.of(snapshot.uri, levelled, snapshot.reduction)
    for shard in levelled.shards:
        if not shard.live:
            shards.append(shard)
            continue
        reader = ShardReader(measured.shard(shard.number))
        file, part = search_shard(measured, reader, ids, queries)
        shards.append(replace(shard, files={**shard.files, EVIDENCE: file}))
        parts.append(part)
    samples = SampleQueries(tuple(ids), queries, merge_neighbours(parts))
    return with_curve(snapshot.uri, replace(levelled, shards=tuple(shards)), samples)
