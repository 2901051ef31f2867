"""Exports some rows of an index as a small index of its own, for example for a laptop.

Stored vectors, digests and metadata are copied, and the reduction is reused. Trees are built for
the new shards, and recall is measured.

Deliberately not here: Spark; all exported rows pass through this machine.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3 import storage
from pool3.errors import NotFound, UsageError
from pool3.index.format.entries import ShardEntry
from pool3.index.format.manifest import Manifest
from pool3.index.recall.measure import with_recall
from pool3.index.recall.picker import MOST_SAMPLES, sample_keys
from pool3.index.shards.copy import ChosenRows, copy_rows, vectors_of
from pool3.index.shards.reader import ShardReader
from pool3.index.shards.selection import Selections
from pool3.index.shards.sizing import ShardCosts, plan_shards
from pool3.index.shards.store import store_shard
from pool3.index.shards.writer import MAX_SEED, ShardWriter, shard_seed
from pool3.index.snapshots.gates import Gates
from pool3.index.snapshots.next import NextSnapshot
from pool3.index.snapshots.snapshot import Snapshot, open_snapshot
from pool3.index.snapshots.store import store_reduction
from pool3.models import copy_model
from pool3.storage.names import new_run_id

log = logging.getLogger(__name__)

_MOST_MEMORY_MB = 4096


def export_index(
    index: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    where: str | None = None,
    sample: float | None = None,
    seed: int = 0,
    snapshot: int | None = None,
) -> Manifest:
    """Write some rows of an index as a new index, and publish it.

    Parameters
    ----------
    index
        Root of the index; a path or uri.
    output
        Root of the new index; the folder must be empty or missing.
    where
        Condition for rows, as for `pool3.search.index.Index.search`; all rows when None.
    sample
        Share of these rows, above 0 and at most 1. The same `seed` selects the same rows, however
        the index is divided into shards.
    seed
        A whole number, 0 to `pool3.index.shards.writer.MAX_SEED`.
    snapshot
        Number of the snapshot; the newest published one when None.

    Returns
    -------
    Manifest
        Of the only snapshot of the new index.

    Raises
    ------
    UsageError
        When an argument is invalid, `output` is not empty, or no row passes.
    StorageError
        When a file cannot be read or written.
    """
    _check(sample, seed)
    target = storage.canonical_uri(output)
    source = open_snapshot(index, snapshot)
    _require_empty(source.uri, target)
    shards = [ShardReader(source.shard(number)) for number in source.searchable]
    passing = ChosenRows.of(shards, Selections(shards).of(where).masks)
    chosen = _sampled(passing, sample, seed).by_id()
    if not len(chosen):
        raise UsageError(
            f"expected rows of {source.uri}, snapshot {source.manifest.snapshot_id}, to export; "
            f"found none of {source.manifest.rows} that pass where={where!r}"
        )
    log.info("exporting %s of %s rows to %s", len(chosen), source.manifest.rows, target)
    upcoming = NextSnapshot.begin(target, new_run_id())
    manifest = _stored(source, upcoming, shards, chosen)
    why = (
        f"exported from {source.uri}, snapshot {source.manifest.snapshot_id}, where {where}, "
        f"sample {sample}, seed {seed}"
    )
    upcoming.publish(manifest, why=why, gates=Gates(max_shrink=0.0))
    return manifest


def _check(sample: Any, seed: Any) -> None:
    real = isinstance(sample, int | float) and not isinstance(sample, bool)
    if sample is not None and not (real and 0 < sample <= 1):
        raise UsageError(f"sample must be above 0 and at most 1; found {sample!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed must be a whole number from 0 to {MAX_SEED}; found {seed!r}")


def _require_empty(root: str, target: str) -> None:
    if f"{target}/".startswith(f"{root}/"):
        raise UsageError(f"an export of {root} must be outside of it; found {target}")
    try:
        existing = next(storage.list_objects(target), None)
    except NotFound:
        return
    if existing is not None:
        raise UsageError(
            f"the output {target} must be empty; found {existing.uri}: name another folder"
        )


def _sampled(chosen: ChosenRows, sample: float | None, seed: int) -> ChosenRows:
    if sample is None or not len(chosen):
        return chosen
    salt = seed.to_bytes(16, "little")
    hashed = b"".join(
        hashlib.blake2b(image_id.encode(), digest_size=8, salt=salt).digest()
        for image_id in chosen.ids.to_pylist()
    )
    order = np.argsort(np.frombuffer(hashed, dtype="<u8"), kind="stable")
    return chosen.take(order[: max(1, round(sample * len(chosen)))])


def _stored(
    source: Snapshot,
    upcoming: NextSnapshot,
    shards: Sequence[ShardReader],
    chosen: ChosenRows,
) -> Manifest:
    """Store model, reduction, shards and recall of the new index, and return its manifest."""
    target, manifest = upcoming.index, source.manifest
    if manifest.model is not None:
        copy_model(storage.join(source.uri, manifest.model), storage.join(target, manifest.model))
    number, unique = upcoming.number, uuid.uuid4().hex
    exported = upcoming.copy_of(
        manifest,
        reduction=store_reduction(target, source.reduction, snapshot=number, unique=unique),
        rows=len(chosen),
        counts={"indexed": len(chosen)},
        shards=_stored_shards(target, shards, chosen, source),
    )
    return with_recall(Snapshot.of(target, exported, source.reduction), *_samples(shards, chosen))


def _samples(
    shards: Sequence[ShardReader], chosen: ChosenRows
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return ids and vectors of sample queries for recall, float32, (s, d)."""
    picked = chosen.take(np.argsort(sample_keys(chosen.ids.to_pylist()))[:MOST_SAMPLES])
    vectors, _ = vectors_of(shards, picked)
    return picked.ids.to_pylist(), vectors


def _stored_shards(
    target: str,
    shards: Sequence[ShardReader],
    chosen: ChosenRows,
    source: Snapshot,
) -> tuple[ShardEntry, ...]:
    manifest, reduction = source.manifest, source.reduction
    costs = ShardCosts.of(reduction, n_trees=manifest.n_trees, vectors_dtype=manifest.vectors_dtype)
    n_shards = plan_shards(len(chosen), costs, max_memory_mb=_MOST_MEMORY_MB)
    entries = []
    for number, positions in enumerate(np.array_split(np.arange(len(chosen)), n_shards)):
        with (
            tempfile.TemporaryDirectory(prefix="pool3-export-") as folder,
            ShardWriter(
                Path(folder) / "shard",
                reduction=reduction,
                n_trees=manifest.n_trees,
                seed=shard_seed(manifest.seed, number),
                vectors_dtype=manifest.vectors_dtype,
            ) as writer,
        ):
            copy_rows(writer, shards, chosen.take(positions))
            built = writer.close()
            entries.append(store_shard(target, built, number=number, unique=uuid.uuid4().hex))
    return tuple(entries)
