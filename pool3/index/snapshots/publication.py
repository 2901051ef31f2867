"""Snapshots and which of them is published: numbered objects, each created once.

A file that a snapshot names is never changed. Of two writers of the same number one wins, and
the other is told so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator

from pool3 import storage
from pool3.errors import AlreadyExists, InvalidIndex, NotFound, SnapshotExpired
from pool3.index.format.json_fields import parse_object
from pool3.index.format.manifest import Manifest, parse_manifest

_SNAPSHOT = re.compile(r"snapshots/(\d{20})/manifest\.json")
_PUBLISHED = re.compile(r"published/(\d{20})\.json")


def manifest_uri(index_uri: str, snapshot: int) -> str:
    """Return the uri of a snapshot's manifest."""
    return storage.join(index_uri, f"snapshots/{snapshot:020d}/manifest.json")


def newest_snapshot(index_uri: str) -> int | None:
    """Return the newest snapshot, published or not: the parent of the next. None without any."""
    return max(_numbers(index_uri, "snapshots", _SNAPSHOT), default=None)


def _numbers(index_uri: str, folder: str, pattern: re.Pattern[str]) -> Iterator[int]:
    try:
        for found in storage.list_objects(storage.join(index_uri, folder)):
            match = pattern.fullmatch(found.uri.removeprefix(index_uri.rstrip("/") + "/"))
            if match:
                yield int(match[1])
    except NotFound:
        return


def write_manifest(index_uri: str, manifest: Manifest) -> str:
    """Store a manifest under its number, as the last step of a build; return its uri.

    Raises
    ------
    AlreadyExists
        When another writer took the number; what stands there stays as it was.
    """
    uri = manifest_uri(index_uri, manifest.snapshot_id)
    try:
        storage.put_if_absent(uri, manifest.to_json())
    except AlreadyExists as error:
        raise AlreadyExists(
            f"snapshot {manifest.snapshot_id} of {index_uri} was written by another run while this "
            f"one ({manifest.run_id}) was building; that one stands, so run this one again"
        ) from error
    return uri


def read_manifest(index_uri: str, snapshot: int, *, expected_sha256: str | None = None) -> Manifest:
    """Read and check the manifest of one snapshot.

    Parameters
    ----------
    expected_sha256
        When given, the manifest's bytes must have this SHA-256.

    Raises
    ------
    SnapshotExpired
        When it was cleaned up.
    InvalidIndex
        When there is no such snapshot, or its manifest is not what it should be.
    """
    uri = manifest_uri(index_uri, snapshot)
    try:
        data = storage.fetch(uri)
    except NotFound as error:
        newest = newest_snapshot(index_uri)
        if newest is not None and snapshot < newest:
            raise SnapshotExpired(
                f"snapshot {snapshot} of {index_uri} has expired; the newest is {newest}: open the "
                "published one without naming a snapshot, or with index.refresh()"
            ) from error
        raise InvalidIndex(
            f"there is no snapshot {snapshot} in {index_uri}: {uri} is missing"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if expected_sha256 is not None and found != expected_sha256.lower():
        raise InvalidIndex(
            f"{uri} must have the SHA-256 {expected_sha256}; found {found}: "
            "it is not the manifest that was pinned"
        )
    manifest = parse_manifest(data, uri)
    if manifest.snapshot_id != snapshot:
        raise InvalidIndex(f"{uri} must be of snapshot {snapshot}; found {manifest.snapshot_id}")
    return manifest


def publish(index_uri: str, snapshot: int, *, by: str, why: str, after: int | None = None) -> int:
    """Make a snapshot the one that readers open; return the number of the log's new entry.

    Parameters
    ----------
    by, why
        Who publishes, such as a run's id, and why, for those who read the log.
    after
        The log's newest entry when the caller began (`newest_entry`): what was published since is
        then never overruled. None takes the log as it is now.

    Raises
    ------
    InvalidIndex
        When the index has no such snapshot.
    AlreadyExists
        When another run published at the same moment, or since `after`.
    """
    read_manifest(index_uri, snapshot)
    number = (newest_entry(index_uri) if after is None else after) + 1
    entry = {"snapshot": snapshot, "by": by, "why": why}
    try:
        storage.put_if_absent(_entry_uri(index_uri, number), json.dumps(entry).encode())
    except AlreadyExists as error:
        raise AlreadyExists(
            f"another run published a snapshot of {index_uri} since this one ({by}) began; "
            f"snapshot {snapshot} stays unpublished: look which one counts now, then run again"
        ) from error
    return number


def _entry_uri(index_uri: str, number: int) -> str:
    return storage.join(index_uri, f"published/{number:020d}.json")


def newest_entry(index_uri: str) -> int:
    """Return the number of the publication log's newest entry; 0 without any."""
    return max(_numbers(index_uri, "published", _PUBLISHED), default=0)


def newest_published(index_uri: str) -> int | None:
    """Return the snapshot that counts, the newest entry's; None when none was published."""
    number = newest_entry(index_uri)
    return published_by(index_uri, number) if number else None


def published_by(index_uri: str, number: int) -> int:
    """Return the snapshot that an entry of the publication log names."""
    uri = _entry_uri(index_uri, number)
    fields = parse_object(storage.fetch(uri), uri)
    fields.text("by")
    fields.text("why")
    return fields.finish(fields.integer("snapshot", at_least=1))
