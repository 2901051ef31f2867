"""Entries of a snapshot's manifest: files, shards, the reduction and the source tables.

Each entry reads itself from JSON and checks that it does not contradict itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pool3.errors import InvalidIndex
from pool3.index.format.json_fields import Fields

TREE, VECTORS, IDS, METADATA = "tree", "vectors", "ids", "metadata"
TOMBSTONES, EVIDENCE = "tombstones", "evidence"
#: Files that each shard with rows must have.
REQUIRED_FILES = (TREE, VECTORS, IDS)
#: Other files that a shard may have.
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
        return fields.finish(
            cls(
                path=fields.relative_path("path"),
                bytes=fields.integer("bytes"),
                sha256=fields.sha256("sha256"),
            )
        )


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard: the files of its tree, vectors, ids and so on. Without rows it has no files.

    Attributes
    ----------
    number
        Position in the manifest, from 0.
    rows
        How many vectors; Annoy's items are 0 to rows - 1.
    dead
        How many of the rows are deleted, so that no search may return them.
    seed
        Of Annoy's random splits.
    max_norm
        M, the length of the longest reduced row (see `pool3.index.reduction`).
    added_in
        The snapshot that the shard was built for; later snapshots reuse it.
    search_k
        For each level of effort of the recall curve, how many leaf entries a search gathers in this
        shard.
    files
        ``tree``, ``vectors``, ``ids``, and where there are any ``metadata``, ``tombstones`` (the
        deleted rows, ascending, as a NumPy array of uint32) and ``evidence`` (what the recall curve
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
        """How many rows a search may return."""
        return self.rows - self.dead

    @classmethod
    def read(cls, fields: Fields, *, format_version: int = 2) -> ShardEntry:
        """Read from the JSON of a format version."""
        later: dict[str, Any] = {}
        if format_version > 1:
            later = {
                "dead": fields.integer("dead"),
                "added_in": fields.integer("added_in", at_least=1),
                "search_k": fields.integers("search_k", at_least=1),
            }
        entry = fields.finish(
            cls(
                number=fields.integer("number"),
                rows=fields.integer("rows"),
                seed=fields.integer("seed"),
                max_norm=fields.number("max_norm"),
                files=fields.mapping(
                    "files", lambda by_kind, kind: FileEntry.read(by_kind.inner(kind))
                ),
                **later,
            )
        )
        entry._check(fields.where)
        return entry

    def _check(self, where: str) -> None:
        """Raise `InvalidIndex` where the entry contradicts itself."""
        expected = set(REQUIRED_FILES) if self.rows else set()
        if set(self.files) - set(OPTIONAL_FILES) != expected or (not self.rows and self.files):
            raise InvalidIndex(
                f"{where}: a shard of {self.rows} rows must have the files {sorted(expected)}; "
                f"found {sorted(self.files)}"
            )
        if self.dead > self.rows or (self.dead > 0) != (TOMBSTONES in self.files):
            raise InvalidIndex(
                f"{where}: a shard must have a file of tombstones exactly where rows of it are "
                f"deleted; found {self.dead} deleted of {self.rows} rows and the files "
                f"{sorted(self.files)}"
            )


@dataclass(frozen=True, kw_only=True)
class ReductionEntry:
    """How vectors were reduced: ``none`` or ``pca``, the length, the share explained, the file."""

    kind: str
    dimension: int
    explained_variance: float
    file: FileEntry | None

    @classmethod
    def read(cls, fields: Fields) -> ReductionEntry:
        """Read from JSON."""
        entry = fields.finish(
            cls(
                kind=fields.choice("kind", ("none", "pca")),
                dimension=fields.integer("dimension", at_least=1),
                explained_variance=fields.number("explained_variance"),
                file=fields.optional_inner("file", FileEntry.read),
            )
        )
        if (entry.file is None) != (entry.kind == "none"):
            raise InvalidIndex(
                f"{fields.where} must name a file where the kind is 'pca', and only there; found "
                f"the kind {entry.kind!r} {'without' if entry.file is None else 'with'} a file"
            )
        return entry


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """The feature table that an index was built from; no version for a foreign one."""

    uri: str
    version: int | None

    @classmethod
    def read(cls, fields: Fields) -> TableEntry:
        """Read from JSON."""
        return fields.finish(
            cls(uri=fields.text("uri"), version=fields.optional_integer("version"))
        )
