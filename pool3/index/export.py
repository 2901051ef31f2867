"""A small index made of some rows of a larger one, complete in itself: for a colleague's laptop.

Vectors, digests and metadata are copied as they are stored, and the reduction is reused; trees are
built anew, and recall is measured.

Deliberately not here: Spark; what is exported passes through this machine.
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
    """Write some rows of an index as an index of their own, and publish it.

    Parameters
    ----------
    index
        Root of the index; a path or uri.
    output
        Root of the new one; nothing may stand there yet.
    where
        Which rows, as for `pool3.search.index.Index.search`; all when None.
    sample
        Which share of these, above 0 and at most 1: always as many, and the same ones for the same
        `seed`, however the index is cut into shards.
    seed
        A whole number, 0 to `pool3.index.shards.writer.MAX_SEED`.
    snapshot
        Which snapshot; the newest published one when None.

    Returns
    -------
    Manifest
        Of the new index's only snapshot.

    Raises
    ------
    UsageError
        When an argument is wrong, something stands at `output`, or no row is left.
    StorageError
        When something cannot be read or written.
    """
    _check(sample, seed)
    target = storage.canonical_uri(output)
    source = open_snapshot(index, snapshot)
    root, manifest, reduction = source.uri, source.manifest, source.reduction
    _require_free(root, target)
    shards = [ShardReader(source.shard(number)) for number in source.searchable]
    chosen = _sampled(
        ChosenRows.of(shards, Selections(shards).of(where).masks), sample, seed
    ).by_id()
    if not len(chosen):
        raise UsageError(
            f"expected rows of {root}, snapshot {manifest.snapshot_id}, to export; found none of "
            f"{manifest.rows} that pass where={where!r}"
        )
    log.info("exporting %s of %s rows to %s", len(chosen), manifest.rows, target)
    if manifest.model is not None:
        copy_model(storage.join(root, manifest.model), storage.join(target, manifest.model))
    exported = NextSnapshot.begin(target, new_run_id())
    number, unique = exported.number, uuid.uuid4().hex
    new = exported.copy_of(
        manifest,
        reduction=store_reduction(target, reduction, snapshot=number, unique=unique),
        rows=len(chosen),
        counts={"indexed": len(chosen)},
        shards=_stored_shards(target, shards, chosen, source),
    )
    new = with_recall(Snapshot.of(target, new, reduction), *_samples(shards, chosen))
    why = (
        f"exported from {root}, snapshot {manifest.snapshot_id}, where {where}, "
        f"sample {sample}, seed {seed}"
    )
    exported.publish(new, why=why, gates=Gates(max_shrink=0.0))
    return new


def _check(sample: Any, seed: Any) -> None:
    real = isinstance(sample, int | float) and not isinstance(sample, bool)
    if sample is not None and not (real and 0 < sample <= 1):
        raise UsageError(f"sample must be above 0 and at most 1; found {sample!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed must be a whole number from 0 to {MAX_SEED}; found {seed!r}")


def _require_free(root: str, target: str) -> None:
    if f"{target}/".startswith(f"{root}/"):
        raise UsageError(f"an export of {root} must stand outside of it; found {target}")
    try:
        found = next(storage.list_objects(target), None)
    except NotFound:
        return
    if found is not None:
        raise UsageError(f"nothing may stand at {target} yet; found {found.uri}: name another")


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


def _samples(
    shards: Sequence[ShardReader], chosen: ChosenRows
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return ids and vectors that recall is measured with, float32, (s, d)."""
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
