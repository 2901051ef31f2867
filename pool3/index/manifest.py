"""A snapshot's manifest: what an index consists of, as one deterministic JSON object.

Every path in it is relative to the index's root and stays inside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pool3.distances import METRICS
from pool3.errors import InvalidIndex
from pool3.index.fields import Fields, parse_object
from pool3.index.vectors import DTYPES

FORMAT_VERSION = 1

TREE, VECTORS, IDS, METADATA = "tree", "vectors", "ids", "metadata"
#: What each shard that has rows must have; metadata may be missing.
REQUIRED_FILES = (TREE, VECTORS, IDS)


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
    seed
        Of Annoy's random splits.
    max_norm
        M, the length of the longest reduced row (see `pool3.index.reduction`).
    files
        ``tree``, ``vectors``, ``ids`` and, where there is any, ``metadata``.
    """

    number: int
    rows: int
    seed: int
    max_norm: float
    files: Mapping[str, FileEntry]

    @classmethod
    def read(cls, fields: Fields) -> ShardEntry:
        """Read from JSON."""
        entry = cls(
            number=fields.integer("number"),
            rows=fields.integer("rows"),
            seed=fields.integer("seed"),
            max_norm=fields.number("max_norm"),
            files=fields.mapping("files", lambda inner, name: FileEntry.read(inner.inner(name))),
        )
        fields.finish()
        expected = set(REQUIRED_FILES) if entry.rows else set()
        if set(entry.files) - {METADATA} != expected or (not entry.rows and entry.files):
            raise InvalidIndex(
                f"{fields.where}: a shard of {entry.rows} rows must have the files "
                f"{sorted(expected)}; found {sorted(entry.files)}"
            )
        return entry


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
    counts
        Rows of the table, by what became of them.
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
    format_version: int = field(default=FORMAT_VERSION)

    def to_json(self) -> bytes:
        """Return the manifest as bytes; equal manifests give equal bytes."""
        text = json.dumps(asdict(self), sort_keys=True, indent=1, allow_nan=False)
        return f"{text}\n".encode()

    def files(self) -> list[FileEntry]:
        """Every file that the snapshot names, the model's copy aside."""
        named = [self.reduction.file] if self.reduction.file else []
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
    if version != FORMAT_VERSION:
        raise InvalidIndex(
            f"{where} has format version {version}; this release reads {FORMAT_VERSION}: "
            "open it with the pool3 that wrote it, or build the index again"
        )
    manifest = _manifest(fields)
    fields.finish()
    _check(manifest, where)
    return manifest


def _manifest(fields: Fields) -> Manifest:
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
        shards=fields.each("shards", ShardEntry.read),
    )


def _check(manifest: Manifest, where: str) -> None:
    rows = sum(shard.rows for shard in manifest.shards)
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
    if manifest.model is not None and manifest.model_id is None:
        raise InvalidIndex(f"{where} names a model's copy and no model_id")
    if manifest.reduction.kind == "none" and manifest.reduction.dimension != manifest.dimension:
        raise InvalidIndex(
            f"without PCA the reduced dimension in {where} must be {manifest.dimension}; "
            f"found {manifest.reduction.dimension}"
        )
