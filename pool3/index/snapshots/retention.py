"""Which snapshots of an index are retained, and which files no retained snapshot names.

A snapshot is retained when it is published, is among the newest, or was so recently: a reader that
opened it may still be reading, and a run that began from it may still be writing.

Deliberately not here: the publication log, of which nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pool3 import storage
from pool3.errors import NotFound
from pool3.index.format.manifest import Manifest
from pool3.index.snapshots.publication import (
    LOG_ENTRY_PATH,
    MANIFEST_PATH,
    manifest_uri,
    published_by,
    read_manifest,
)
from pool3.storage import StoredObject
from pool3.storage.removal import delete_objects

_IDS = "/ids.arrow"
#: Writers of an index store files in these folders only, so nothing else may be deleted.
_WRITTEN_FOLDERS = ("snapshots/", "shards/", "metadata/", "models/")


@dataclass(frozen=True, kw_only=True)
class IndexListing:
    """All objects and manifests in an index's folder at one time.

    Attributes
    ----------
    index_uri
        Canonical uri of the index's root.
    objects
        By their paths below it.
    manifests
        By snapshot.
    """

    index_uri: str
    objects: Mapping[str, StoredObject]
    manifests: Mapping[int, Manifest]

    def published(self) -> list[tuple[int, datetime]]:
        """Return the snapshots of the publication log with their times, oldest entry first.

        The last is the one that readers open.
        """
        entries = sorted(
            (int(match[1]), entry.modified_at)
            for path, entry in self.objects.items()
            if (match := LOG_ENTRY_PATH.fullmatch(path))
        )
        return [(published_by(self.index_uri, number), at) for number, at in entries]

    def manifest_path(self, snapshot: int) -> str:
        """Return the path of a snapshot's manifest, a key of `objects`."""
        return _path(self.index_uri, manifest_uri(self.index_uri, snapshot))

    def named(self, snapshots: Collection[int]) -> set[str]:
        """Return the paths of the objects that some snapshots need."""
        paths = set()
        for number in snapshots:
            manifest = self.manifests[number]
            paths |= {file.path for file in manifest.files()}
            paths.add(self.manifest_path(number))
            if manifest.model is not None:
                folder = f"{manifest.model}/"
                paths |= {path for path in self.objects if path.startswith(folder)}
        return paths


def list_index(index_uri: str) -> IndexListing:
    """List an index's folder and read all manifests in it.

    Raises
    ------
    InvalidIndex
        When a manifest cannot be read, so that the files that it names are unknown.
    """
    try:
        listed = list(storage.list_objects(index_uri))
    except NotFound:
        listed = []
    objects = {_path(index_uri, stored.uri): stored for stored in listed}
    numbers = sorted(int(match[1]) for path in objects if (match := MANIFEST_PATH.fullmatch(path)))
    manifests = {number: read_manifest(index_uri, number) for number in numbers}
    return IndexListing(index_uri=index_uri, objects=objects, manifests=manifests)


def _path(index_uri: str, uri: str) -> str:
    return uri.removeprefix(index_uri.rstrip("/") + "/")


def retained_snapshots(listing: IndexListing, *, newest: int, since: datetime) -> set[int]:
    """Return the snapshots that are retained.

    Parameters
    ----------
    newest
        How many of the newest are, at least 1: the newest number must never be used again.
    since
        UTC. Retained as well are snapshots that were written or published, or were still the
        published one, at that time or later.
    """
    retained = set(sorted(listing.manifests)[-newest:])
    log = listing.published()
    ends = [at for _, at in log[1:]] + [datetime.max.replace(tzinfo=UTC)]
    retained |= {number for (number, _), end in zip(log, ends, strict=True) if end >= since}
    for number in listing.manifests:
        if listing.objects[listing.manifest_path(number)].modified_at >= since:
            retained.add(number)
    return retained & set(listing.manifests)


def delete_expired(
    listing: IndexListing, retained: Collection[int], *, before: datetime
) -> list[str]:
    """Delete what no retained snapshot needs; returns the uris.

    Manifests are deleted first: a run that is killed in between leaves files that no snapshot
    names, but no snapshot without its files.

    Parameters
    ----------
    retained
        Snapshots that are kept.
    before
        UTC. A file that no snapshot names is deleted only if it is older than this; a younger one
        may belong to a run that is still writing.
    """
    manifests = [
        manifest_uri(listing.index_uri, number)
        for number in listing.manifests
        if number not in retained
    ]
    named = listing.named(retained)
    files = [
        stored.uri
        for path, stored in sorted(listing.objects.items())
        if path.startswith(_WRITTEN_FOLDERS)
        and path not in named
        and not MANIFEST_PATH.fullmatch(path)
        and stored.modified_at < before
    ]
    delete_objects(manifests)
    # Ids last: while they exist, a run that was killed can be repeated to delete the same pictures.
    delete_objects([uri for uri in files if not uri.endswith(_IDS)])
    delete_objects([uri for uri in files if uri.endswith(_IDS)])
    return [*manifests, *files]
