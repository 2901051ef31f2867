"""A snapshot's manifest: what an index consists of, as one deterministic JSON object.

Every path in it is relative to the index's root and stays inside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pool3.errors import InvalidIndex
from pool3.index.format.json_fields import Fields, parse_object
from pool3.index.format.recall_curve import RecallCurve
from pool3.vectors.distances import METRICS
from pool3.vectors.stored import DTYPES

FORMAT_VERSION = 2
#: What this release reads: its own format, and those of the two releases before it.
READABLE_VERSIONS = (1, 2)

TREE, VECTORS, IDS, METADATA = "tree", "vectors", "ids", "metadata"
TOMBSTONES, EVIDENCE = "tombstones", "evidence"
#: What each shard that has rows must have.
REQUIRED_FILES = (TREE, VECTORS, IDS)
#: What it may have besides.
OPTIONAL_FILES = (METADATA, TOMBSTONES, EVIDENCE)


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One immutable file: path relative to the index, number of bytes, SHA-256."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def read(cls, fields: Fields) -> FileEntry:
        """Read from JSON."""
        entry = cls(
            path=fields.relative_path("path"),
            bytes=fields.integer("bytes"),
            sha256=fields.sha256("sha256"),
        )
        fields.finish()
        return entry


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard: a tree and what stands beside it. Without rows it has no files.

    Attributes
    ----------
    number
        Position in the manifest, from 0.
    rows
        How many vectors; Annoy's items are 0 to rows - 1.
    dead
        How many of them no search may find, since the table no longer holds them so.
    seed
        Of Annoy's random splits.
    max_norm
        M, the length of the longest reduced row (see `pool3.index.reduction`).
    added_in
        The snapshot that it was built for; later ones carry it on.
    search_k
        For each level of effort of the recall curve, how many leaf entries are gathered here.
    files
        ``tree``, ``vectors``, ``ids``, and where there are any ``metadata``, ``tombstones`` (the
        dead rows, ascending, as a NumPy array of uint32) and ``evidence`` (what the recall curve
        was computed from).
    """

    number: int
    rows: int
    seed: int
    max_norm: float
    files: Mapping[str, FileEntry]
    dead: int = 0
    added_in: int = 1
    search_k: tuple[int, ...] = ()

    @property
    def live(self) -> int:
        """How many rows a search may find."""
        return self.rows - self.dead

    @classmethod
    def read(cls, fields: Fields) -> ShardEntry:
        """Read from JSON."""
        entry = cls(
            number=fields.integer("number"),
            rows=fields.integer("rows"),
            seed=fields.integer("seed"),
            max_norm=fields.number("max_norm"),
            files=fields.mapping("files", lambda inner, name: FileEntry.read(inner.inner(name))),
            dead=fields.integer("dead"),
            added_in=fields.integer("added_in", at_least=1),
            search_k=fields.integers("search_k", at_least=1),
        )
        fields.finish()
        entry.check(fields.where)
        return entry

    @classmethod
    def read_version_1(cls, fields: Fields) -> ShardEntry:
        """Read from the JSON of format version 1."""
        entry = cls(
            number=fields.integer("number"),
            rows=fields.integer("rows"),
            seed=fields.integer("seed"),
            max_norm=fields.number("max_norm"),
            files=fields.mapping("files", lambda inner, name: FileEntry.read(inner.inner(name))),
        )
        fields.finish()
        entry.check(fields.where)
        return entry

    def check(self, where: str) -> None:
        """Raise `InvalidIndex` where the entry contradicts itself."""
        expected = set(REQUIRED_FILES) if self.rows else set()
        if set(self.files) - set(OPTIONAL_FILES) != expected or (not self.rows and self.files):
            raise InvalidIndex(
                f"{where}: a shard of {self.rows} rows must have the files {sorted(expected)}; "
                f"found {sorted(self.files)}"
            )
        if self.dead > self.rows or (self.dead > 0) != (TOMBSTONES in self.files):
            raise InvalidIndex(
                f"{where}: a shard must have tombstones just where rows of it are dead; found "
                f"{self.dead} dead of {self.rows} rows and the files {sorted(self.files)}"
            )


@dataclass(frozen=True, kw_only=True)
class ReductionEntry:
    """How vectors were reduced: ``none`` or ``pca``, the length, the share kept, the file."""

    kind: str
    dimension: int
    explained_variance: float
    file: FileEntry | None

    @classmethod
    def read(cls, fields: Fields) -> ReductionEntry:
        """Read from JSON."""
        entry = cls(
            kind=fields.one_of("kind", ("none", "pca")),
            dimension=fields.integer("dimension", at_least=1),
            explained_variance=fields.number("explained_variance"),
            file=fields.optional_inner("file", FileEntry.read),
        )
        fields.finish()
        if (entry.file is None) != (entry.kind == "none"):
            raise InvalidIndex(f"{fields.where}: a file must stand there for pca, and only then")
        return entry


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """The feature table that an index was built from; no version for a foreign one."""

    uri: str
    version: int | None

    @classmethod
    def read(cls, fields: Fields) -> TableEntry:
        """Read from JSON."""
        entry = cls(uri=fields.text("uri"), version=fields.optional_integer("version"))
        fields.finish()
        return entry


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a snapshot consists of.

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
        How many rows a search may find.
    counts
        Rows of the table, by what became of them.
    base
        The snapshot whose shards this one carries on; None when all were built anew.
    table_id
        What Delta names the table by; another one at the same place has another.
    trained_rows
        How many rows the PCA was fitted to.
    unseen_rows, unseen_explained_variance
        How many rows were added since, and how much of their variance the PCA keeps.
    metadata
        The table that metadata was last taken from, when it was another than the feature table.
    samples
        Sample queries with what is known of their true neighbours (`pool3.index.recall.samples`).
    recall
        What a search finds, by effort; None when it was not measured.
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
        """Every file that the snapshot names, the model's copy aside."""
        named = [file for file in (self.reduction.file, self.samples) if file is not None]
        return named + [file for shard in self.shards for file in shard.files.values()]

    @property
    def bytes(self) -> int:
        """Size of all of `files` together."""
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
    manifest = _manifest(fields, version)
    fields.finish()
    _check(manifest, where)
    return manifest


def _manifest(fields: Fields, version: int) -> Manifest:
    model = None
    if fields.optional_text("model") is not None:
        model = fields.relative_path("model")
    return Manifest(
        snapshot_id=fields.integer("snapshot_id", at_least=1),
        parent=fields.optional_integer("parent", at_least=1),
        created_at=fields.text("created_at"),
        run_id=fields.text("run_id"),
        metric=fields.one_of("metric", METRICS),
        dimension=fields.integer("dimension", at_least=1),
        reduction=ReductionEntry.read(fields.inner("reduction")),
        n_trees=fields.integer("n_trees", at_least=1),
        seed=fields.integer("seed"),
        vectors_dtype=fields.one_of("vectors_dtype", DTYPES),
        model_id=fields.optional_text("model_id"),
        model=model,
        table=TableEntry.read(fields.inner("table")),
        rows=fields.integer("rows"),
        counts=fields.mapping("counts", lambda inner, name: inner.integer(name)),
        shards=fields.each("shards", ShardEntry.read if version > 1 else ShardEntry.read_version_1),
        **(_added_in_version_2(fields) if version > 1 else {}),
    )


def _added_in_version_2(fields: Fields) -> dict[str, Any]:
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
    rows = sum(shard.live for shard in manifest.shards)
    if rows != manifest.rows:
        raise InvalidIndex(f"{where} states {manifest.rows} rows, and its shards hold {rows}")
    numbers = [shard.number for shard in manifest.shards]
    if numbers != list(range(len(numbers))):
        raise InvalidIndex(f"the shards in {where} must be numbered from 0; found {numbers}")
    if manifest.snapshot_id != (manifest.parent or 0) + 1:
        raise InvalidIndex(
            f"snapshot {manifest.snapshot_id} in {where} must be its parent's number and one "
            f"more; found the parent {manifest.parent}"
        )
    levels = {len(shard.search_k) for shard in manifest.shards if shard.rows}
    deepest = (
        max((point.level + 1 for point in manifest.recall.points), default=0)
        if (manifest.recall is not None)
        else 0
    )
    if len(levels) > 1 or deepest > min(levels, default=deepest):
        raise InvalidIndex(
            f"each shard in {where} must state search_k for the same levels, {deepest} or more; "
            f"found {sorted(levels)}"
        )
    if manifest.model is not None and manifest.model_id is None:
        raise InvalidIndex(f"{where} names a model's copy and no model_id")
    if manifest.reduction.kind == "none" and manifest.reduction.dimension != manifest.dimension:
        raise InvalidIndex(
            f"without PCA the reduced dimension in {where} must be {manifest.dimension}; "
            f"found {manifest.reduction.dimension}"
        )
