"""Manifests of snapshots and the publication log: numbered objects, each created only once.

A file that a snapshot names is never changed. When two writers create the same number, one of them
succeeds and the other gets `AlreadyExists`.
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

#: Paths below the index's root, with the number of the snapshot or of the log's entry.
MANIFEST_PATH = re.compile(r"snapshots/(\d{20})/manifest\.json")
LOG_ENTRY_PATH = re.compile(r"published/(\d{20})\.json")


def manifest_uri(index_uri: str, snapshot: int) -> str:
    """Return the uri of a snapshot's manifest."""
    return storage.join(index_uri, f"snapshots/{snapshot:020d}/manifest.json")


def newest_snapshot(index_uri: str) -> int | None:
    """Return the newest snapshot, published or not: the next one's parent. None without any."""
    return max(_numbers(index_uri, "snapshots", MANIFEST_PATH), default=None)


def _numbers(index_uri: str, folder: str, pattern: re.Pattern[str]) -> Iterator[int]:
    try:
        for stored in storage.list_objects(storage.join(index_uri, folder)):
            match = pattern.fullmatch(stored.uri.removeprefix(index_uri.rstrip("/") + "/"))
            if match:
                yield int(match[1])
    except NotFound:
        return


def write_manifest(index_uri: str, manifest: Manifest) -> str:
    """Store a manifest under its number, as the last step of a build; return its uri.

    Raises
    ------
    AlreadyExists
        When another writer created that number; its manifest is left unchanged.
    """
    uri = manifest_uri(index_uri, manifest.snapshot_id)
    try:
        storage.put_if_absent(uri, manifest.to_json())
    except AlreadyExists as error:
        raise AlreadyExists(
            f"snapshot {manifest.snapshot_id} of {index_uri} was written by another run while this "
            f"one ({manifest.run_id}) was building; that snapshot is kept, so run this one again"
        ) from error
    return uri


def read_manifest(index_uri: str, snapshot: int, *, expected_sha256: str | None = None) -> Manifest:
    """Read and check the manifest of one snapshot.

    Parameters
    ----------
    expected_sha256
        SHA-256 that the manifest must have; any when None.

    Raises
    ------
    SnapshotExpired
        When the snapshot expired and was deleted.
    InvalidIndex
        When there is no such snapshot, or its manifest is not valid.
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
    sha256 = hashlib.sha256(data).hexdigest()
    if expected_sha256 is not None and sha256 != expected_sha256.lower():
        raise InvalidIndex(
            f"{uri} must have the SHA-256 {expected_sha256}; found {sha256}: it is not the "
            "expected manifest; check the snapshot, or expect that SHA-256"
        )
    manifest = parse_manifest(data, uri)
    if manifest.snapshot_id != snapshot:
        raise InvalidIndex(f"{uri} must be of snapshot {snapshot}; found {manifest.snapshot_id}")
    return manifest


def publish(index_uri: str, snapshot: int, *, by: str, why: str, after: int | None = None) -> int:
    """Make readers open a snapshot; return the number of the new entry of the publication log.

    Parameters
    ----------
    by, why
        Who publishes, such as the id of a run, and why; both are stored in the log.
    after
        The newest entry of the log when the caller began (`newest_entry`), so that it does not
        overrule what another run published since. None for the newest entry now.

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
            f"snapshot {snapshot} stays unpublished: check which one is published now, then run "
            "again"
        ) from error
    return number


def _entry_uri(index_uri: str, number: int) -> str:
    return storage.join(index_uri, f"published/{number:020d}.json")


def newest_entry(index_uri: str) -> int:
    """Return the number of the publication log's newest entry; 0 without any."""
    return max(_numbers(index_uri, "published", LOG_ENTRY_PATH), default=0)


def newest_published(index_uri: str) -> int | None:
    """Return the published snapshot, that of the newest entry; None when none was published."""
    number = newest_entry(index_uri)
    return published_by(index_uri, number) if number else None


def published_by(index_uri: str, number: int) -> int:
    """Return the snapshot that an entry of the publication log names."""
    uri = _entry_uri(index_uri, number)
    fields = parse_object(storage.fetch(uri), uri)
    fields.text("by")
    fields.text("why")
    return fields.finish(fields.integer("snapshot", at_least=1))
