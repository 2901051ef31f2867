"""A snapshot's manifest: what an index consists of, as one deterministic JSON object.

All paths in it are relative to the index's root and stay inside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pool3.errors import InvalidIndex
from pool3.index.format.entries import IDS, FileEntry, ReductionEntry, ShardEntry, TableEntry
from pool3.index.format.json_fields import Fields, parse_object
from pool3.index.format.recall_curve import RecallCurve
from pool3.vectors.distances import METRICS
from pool3.vectors.stored import DTYPES

FORMAT_VERSION = 2
#: The format versions that this release reads.
READABLE_VERSIONS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of a snapshot.

    Attributes
    ----------
    snapshot_id
        Its number; the parent's and one more.
    parent
        The snapshot before it, None for the first.
    created_at
        UTC, ISO 8601.
    dimension
        Length of a vector before the reduction.
    vectors_dtype
        Of the re-rank vectors: ``float16`` or ``float32``.
    model_id, model
        The model that made the vectors, and its copy's folder in the index; None when foreign.
    rows
        How many rows a search may return.
    counts
        Rows of the table: how many were indexed, how many skipped, and why.
    base
        The snapshot whose shards this one reuses; None when all shards were built for this one.
    table_id
        Delta's id of the table; a table that replaces it at the same path has another id.
    trained_rows
        How many rows the PCA was fitted to.
    unseen_rows, unseen_explained_variance
        How many rows were added since, and which share of their variance the PCA explains.
    metadata
        The table that metadata was last read from, if that is not the feature table.
    samples
        Sample queries with their true neighbours (`pool3.index.recall.samples`).
    recall
        Recall by effort; None when it was not measured.
    """

    snapshot_id: int
    parent: int | None
    created_at: str
    run_id: str
    metric: str
    dimension: int
    reduction: ReductionEntry
    n_trees: int
    seed: int
    vectors_dtype: str
    model_id: str | None
    model: str | None
    table: TableEntry
    rows: int
    counts: Mapping[str, int]
    shards: tuple[ShardEntry, ...]
    base: int | None = None
    table_id: str | None = None
    trained_rows: int = 0
    unseen_rows: int = 0
    unseen_explained_variance: float | None = None
    metadata: TableEntry | None = None
    samples: FileEntry | None = None
    recall: RecallCurve | None = None
    format_version: int = field(default=FORMAT_VERSION)

    def to_json(self) -> bytes:
        """Return the manifest as bytes; equal manifests give equal bytes."""
        text = json.dumps(asdict(self), sort_keys=True, indent=1, allow_nan=False)
        return f"{text}\n".encode()

    def files(self) -> list[FileEntry]:
        """Return all files that the snapshot names, except for the copy of the model."""
        named = [file for file in (self.reduction.file, self.samples) if file is not None]
        return named + [file for shard in self.shards for file in shard.files.values()]

    @property
    def bytes(self) -> int:
        """Total size of `files`."""
        return sum(file.bytes for file in self.files())


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Read and check a manifest.

    Parameters
    ----------
    data
        What `Manifest.to_json` wrote.
    where
        Its uri, which errors name.

    Raises
    ------
    InvalidIndex
        When a field is missing, of the wrong kind, contradicts another, or leads out of the index;
        also for a format version that this release does not know.
    """
    fields = parse_object(data, where)
    version = fields.integer("format_version")
    if version not in READABLE_VERSIONS:
        raise InvalidIndex(
            f"{where} has format version {version}; this release reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}: open it with the pool3 that wrote it, "
            "or build the index again"
        )
    manifest = fields.finish(_manifest(fields, version))
    _check(manifest, where)
    return manifest


def _manifest(fields: Fields, version: int) -> Manifest:
    has_model = fields.optional_text("model") is not None
    later = _fields_of_version_2(fields) if version > 1 else {}
    return Manifest(
        snapshot_id=fields.integer("snapshot_id", at_least=1),
        parent=fields.optional_integer("parent", at_least=1),
        created_at=fields.text("created_at"),
        run_id=fields.text("run_id"),
        metric=fields.choice("metric", METRICS),
        dimension=fields.integer("dimension", at_least=1),
        reduction=ReductionEntry.read(fields.inner("reduction")),
        n_trees=fields.integer("n_trees", at_least=1),
        seed=fields.integer("seed"),
        vectors_dtype=fields.choice("vectors_dtype", DTYPES),
        model_id=fields.optional_text("model_id"),
        model=fields.relative_path("model") if has_model else None,
        table=TableEntry.read(fields.inner("table")),
        rows=fields.integer("rows"),
        counts=fields.mapping("counts", lambda inner, name: inner.integer(name)),
        shards=fields.each("shards", lambda shard: ShardEntry.read(shard, format_version=version)),
        **later,
    )


def _fields_of_version_2(fields: Fields) -> dict[str, Any]:
    unseen = "unseen_explained_variance"
    return {
        "base": fields.optional_integer("base", at_least=1),
        "table_id": fields.optional_text("table_id"),
        "trained_rows": fields.integer("trained_rows"),
        "unseen_rows": fields.integer("unseen_rows"),
        unseen: fields.optional_number(unseen),
        "metadata": fields.optional_inner("metadata", TableEntry.read),
        "samples": fields.optional_inner("samples", FileEntry.read),
        "recall": fields.optional_inner("recall", RecallCurve.read),
    }


def _check(manifest: Manifest, where: str) -> None:
    """Raise `InvalidIndex` where fields contradict each other."""
    _check_shards(manifest, where)
    if manifest.snapshot_id != (manifest.parent or 0) + 1:
        raise InvalidIndex(
            f"snapshot {manifest.snapshot_id} in {where} must be its parent's number and one "
            f"more; found the parent {manifest.parent}"
        )
    if manifest.model is not None and manifest.model_id is None:
        raise InvalidIndex(f"{where} names the copy of a model and must name its model_id as well")
    if manifest.reduction.kind == "none" and manifest.reduction.dimension != manifest.dimension:
        raise InvalidIndex(
            f"without PCA the reduced dimension in {where} must be {manifest.dimension}; "
            f"found {manifest.reduction.dimension}"
        )


def _check_shards(manifest: Manifest, where: str) -> None:
    rows = sum(shard.live for shard in manifest.shards)
    if rows != manifest.rows:
        raise InvalidIndex(f"{where} states {manifest.rows} rows, and its shards hold {rows}")
    numbers = [shard.number for shard in manifest.shards]
    if numbers != list(range(len(numbers))):
        raise InvalidIndex(f"the shards in {where} must be numbered from 0; found {numbers}")
    _check_distinct(manifest, where)
    levels = {len(shard.search_k) for shard in manifest.shards if shard.rows}
    points = () if manifest.recall is None else manifest.recall.points
    deepest = max((point.level + 1 for point in points), default=0)
    if len(levels) > 1 or deepest > min(levels, default=deepest):
        raise InvalidIndex(
            f"each shard in {where} must state search_k for the same levels, {deepest} or more; "
            f"found {sorted(levels)}"
        )


def _check_distinct(manifest: Manifest, where: str) -> None:
    """Raise `InvalidIndex` where two shards have one file, or live rows of the same ids."""
    owners: dict[str, ShardEntry] = {}
    contents: dict[str, ShardEntry] = {}
    for shard in manifest.shards:
        for file in shard.files.values():
            other = owners.setdefault(file.path, shard)
            if other is not shard:
                raise InvalidIndex(
                    f"each file in {where} must belong to one shard; found {file.path} in the "
                    f"shards {other.number} and {shard.number}"
                )
        if IDS not in shard.files:
            continue
        same = contents.setdefault(shard.files[IDS].sha256, shard)
        # An id that was deleted and added again may be in both, with a live row in one of them.
        if same is not shard and same.live + shard.live > shard.rows:
            raise InvalidIndex(
                f"each id in {where} must be in one shard; the shards {same.number} and "
                f"{shard.number} have the same ids: {shard.files[IDS].path}"
            )
