"""A snapshot's manifest and reduction, without its shards: what a job needs before its tasks."""

from __future__ import annotations

import os

from pool3 import storage
from pool3.errors import InvalidIndex
from pool3.index.format.manifest import Manifest
from pool3.index.reduction import Reduction
from pool3.index.snapshots.files import IndexFiles, stored_reduction
from pool3.index.snapshots.publication import newest_published, newest_snapshot, read_manifest


def open_snapshot(
    where: str | os.PathLike[str], snapshot: int | None = None
) -> tuple[str, Manifest, Reduction]:
    """Return the canonical uri of an index's root, a snapshot's manifest and its reduction.

    Parameters
    ----------
    where
        The index's root.
    snapshot
        Which snapshot; the newest published one when None.

    Raises
    ------
    InvalidIndex
        When there is no index or no such snapshot, or it is not what it should be.
    """
    root = storage.canonical_uri(where)
    number = published_snapshot(root) if snapshot is None else snapshot
    manifest = read_manifest(root, number)
    return root, manifest, stored_reduction(IndexFiles(root, manifest), manifest)


def published_snapshot(root: str) -> int:
    """Return the newest published snapshot of an index.

    Raises
    ------
    InvalidIndex
        When none was published.
    """
    published = newest_published(root)
    if published is not None:
        return published
    newest = newest_snapshot(root)
    if newest is None:
        raise InvalidIndex(f"{root} is not an index: no snapshot was ever published there")
    raise InvalidIndex(
        f"no snapshot of {root} was published; the newest is {newest}: publish it, or open it "
        f"with snapshot={newest}"
    )
