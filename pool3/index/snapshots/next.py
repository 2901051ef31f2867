"""The next snapshot of an index: its manifest is put together, checked by gates and published.

All writers use it: they begin before they read anything, store their shards, make the manifest for
their kind of change (`fresh`, `added`, `folded`, `without`, `copy_of`), and publish it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pool3.index.format.entries import ShardEntry
from pool3.index.format.manifest import Manifest
from pool3.index.snapshots.gates import Gates
from pool3.index.snapshots.publication import (
    newest_entry,
    newest_snapshot,
    publish,
    published_by,
    read_manifest,
    write_manifest,
)


@dataclass(frozen=True, kw_only=True)
class NextSnapshot:
    """The snapshot that a run is making; `publish` is the first that writes anything.

    Attributes
    ----------
    index
        Canonical uri of the index's root.
    run_id
        Of the run that makes it.
    parent
        The newest snapshot when the run began, published or not; None for the first.
    base
        The published snapshot when the run began; None when there was none.
    log_entry
        Number of the newest entry of the publication log when the run began. When another run
        publishes after that, this one does not overrule it.
    """

    index: str
    run_id: str
    parent: int | None
    base: Manifest | None
    log_entry: int

    @classmethod
    def begin(cls, index: str, run_id: str) -> NextSnapshot:
        """Begin a run on an index, which need not exist yet."""
        entry = newest_entry(index)
        return cls(
            index=index,
            run_id=run_id,
            parent=newest_snapshot(index),
            base=read_manifest(index, published_by(index, entry)) if entry else None,
            log_entry=entry,
        )

    @property
    def number(self) -> int:
        """Number of the snapshot."""
        return (self.parent or 0) + 1

    def fresh(self, **contents: Any) -> Manifest:
        """Return the manifest of shards that were all built from a table.

        Parameters
        ----------
        contents
            The fields of `Manifest` that describe what was built.
        """
        return Manifest(base=None, **self._identity(), **contents)

    def added(self, base: Manifest, shards: Sequence[ShardEntry], **changes: Any) -> Manifest:
        """Return the manifest of the base's shards, some with new tombstones, and of new shards."""
        return self._following(base, shards, {"base": base.snapshot_id, **changes})

    def folded(self, base: Manifest, shards: Sequence[ShardEntry]) -> Manifest:
        """Return the manifest of new shards with the live rows of the base."""
        return self._following(base, shards, {"base": None})

    def without(self, base: Manifest, shards: Sequence[ShardEntry]) -> Manifest:
        """Return the manifest of shards without some pictures; its recall is not measured yet."""
        changes = {"base": base.snapshot_id, "samples": None, "recall": None}
        return self._following(base, shards, changes)

    def copy_of(self, source: Manifest, **changes: Any) -> Manifest:
        """Return a manifest with another index's settings; its recall is not measured yet."""
        return replace(
            source,
            **self._identity(),
            base=None,
            unseen_rows=0,
            unseen_explained_variance=None,
            samples=None,
            recall=None,
            **changes,
        )

    def publish(self, manifest: Manifest, *, why: str, gates: Gates) -> None:
        """Write the manifest, and publish it if the gates hold.

        Raises
        ------
        AlreadyExists
            When another run wrote this snapshot's number, or published since this one began.
        GateError
            When a gate does not hold: the snapshot stays staged, and readers still open the
            published one.
        """
        write_manifest(self.index, manifest)
        gates.require(self.base, manifest)
        publish(self.index, manifest.snapshot_id, by=self.run_id, why=why, after=self.log_entry)

    def _identity(self) -> dict[str, Any]:
        return {
            "snapshot_id": self.number,
            "parent": self.parent,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run_id": self.run_id,
        }

    def _following(
        self, base: Manifest, shards: Sequence[ShardEntry], changes: Mapping[str, Any]
    ) -> Manifest:
        rows = sum(entry.live for entry in shards)
        return replace(base, **self._identity(), rows=rows, shards=tuple(shards), **changes)
