"""The next snapshot of an index: its manifest put together, checked by gates, published.

Every writer goes through here: it begins before it reads anything, stores its shards, asks for the
manifest of what it did (`fresh`, `added`, `folded`, `without`, `copy_of`), and publishes that.
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
    """The snapshot that a run is making; nothing is written before `publish`.

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
        The newest entry of the publication log then: what others publish meanwhile stands.
    """

    index: str
    run_id: str
    parent: int | None
    base: Manifest | None
    log_entry: int

    @classmethod
    def begin(cls, index: str, run_id: str) -> NextSnapshot:
        """Begin a run on an index, which need not be there yet."""
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
            The fields of `Manifest` that say what was built.
        """
        return Manifest(base=None, **self._identity(), **contents)

    def added(self, base: Manifest, shards: Sequence[ShardEntry], **changes: Any) -> Manifest:
        """Return the manifest of the base's shards, with tombstones or metadata, and new ones."""
        return self._following(base, shards, {"base": base.snapshot_id, **changes})

    def folded(self, base: Manifest, shards: Sequence[ShardEntry]) -> Manifest:
        """Return the manifest of new shards that hold the live rows of the base."""
        return self._following(base, shards, {"base": None})

    def without(self, base: Manifest, shards: Sequence[ShardEntry]) -> Manifest:
        """Return the manifest of shards without some pictures; nothing is measured of it yet."""
        changes = {"base": base.snapshot_id, "samples": None, "recall": None}
        return self._following(base, shards, changes)

    def copy_of(self, source: Manifest, **changes: Any) -> Manifest:
        """Return a manifest with the settings of another index's; nothing is measured of it yet."""
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
        """Write the manifest; publish it when the gates hold.

        Raises
        ------
        AlreadyExists
            When another run took the number, or published since this one began.
        GateError
            When a gate does not hold: the snapshot stays staged, and the published one counts.
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
