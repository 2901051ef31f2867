"""Which snapshots of an index stay, and what no retained snapshot names any more.

A snapshot stays when it is published, is among the newest, or was so not long ago: a reader that
opened it then may still be reading, and a run that began from it may still be writing.

Deliberately not here: the publication log, which is kept whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pool3 import storage
from pool3.errors import NotFound
from pool3.index.format.manifest import Manifest
from pool3.index.snapshots.publication import manifest_uri, published_by, read_manifest
from pool3.storage import StoredObject
from pool3.storage.removal import delete_objects

_MANIFEST = re.compile(r"snapshots/(\d{20})/manifest\.json")
_PUBLISHED = re.compile(r"published/(\d{20})\.json")
_IDS = "/ids.arrow"
#: Only below these lies what an index's writers put there under names of their own.
_OURS = ("snapshots/", "shards/", "metadata/", "models/")


@dataclass(frozen=True, kw_only=True)
class IndexListing:
    """Everything that an index's folder held at one time.

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
        """Return the snapshots of the publication log and when they were published, oldest first.

        The last is the one that counts.
        """
        entries = sorted(
            (int(match[1]), found.modified_at)
            for path, found in self.objects.items()
            if (match := _PUBLISHED.fullmatch(path))
        )
        return [(published_by(self.index_uri, number), at) for number, at in entries]

    def named(self, snapshots: Collection[int]) -> set[str]:
        """Return the paths of the objects that some snapshots need."""
        paths = set()
        for number in snapshots:
            manifest = self.manifests[number]
            paths |= {file.path for file in manifest.files()}
            paths.add(_path(self.index_uri, manifest_uri(self.index_uri, number)))
            if manifest.model is not None:
                below = f"{manifest.model}/"
                paths |= {path for path in self.objects if path.startswith(below)}
        return paths


def list_index(index_uri: str) -> IndexListing:
    """List an index's folder and read all manifests in it.

    Raises
    ------
    InvalidIndex
        When a manifest cannot be read: nobody knows then what it names.
    """
    try:
        listed = list(storage.list_objects(index_uri))
    except NotFound:
        listed = []
    objects = {_path(index_uri, found.uri): found for found in listed}
    numbers = sorted(int(match[1]) for path in objects if (match := _MANIFEST.fullmatch(path)))
    manifests = {number: read_manifest(index_uri, number) for number in numbers}
    return IndexListing(index_uri=index_uri, objects=objects, manifests=manifests)


def _path(index_uri: str, uri: str) -> str:
    return uri.removeprefix(index_uri.rstrip("/") + "/")


def retained_snapshots(held: IndexListing, *, newest: int, since: datetime) -> set[int]:
    """Return the snapshots that stay.

    Parameters
    ----------
    newest
        How many of the newest, at least 1: the newest number must never be given twice.
    since
        UTC. Those stay as well that were published, or not yet followed by another, at that time or
        later.
    """
    stay = set(sorted(held.manifests)[-newest:])
    log = held.published()
    ends = [at for _, at in log[1:]] + [datetime.max.replace(tzinfo=UTC)]
    stay |= {number for (number, _), end in zip(log, ends, strict=True) if end >= since}
    for number in held.manifests:
        path = _path(held.index_uri, manifest_uri(held.index_uri, number))
        if held.objects[path].modified_at >= since:
            stay.add(number)
    return stay & set(held.manifests)


def delete_expired(held: IndexListing, stay: Collection[int], *, before: datetime) -> list[str]:
    """Delete what no retained snapshot needs; returns the uris.

    The manifests go first: a run that dies in between leaves files that nobody names.

    Parameters
    ----------
    stay
        Snapshots that stay.
    before
        UTC. A file that no snapshot names and that is younger may be of a run that is still
        writing.
    """
    gone = [manifest_uri(held.index_uri, number) for number in held.manifests if number not in stay]
    named = held.named(stay)
    files = [
        found.uri
        for path, found in sorted(held.objects.items())
        if path.startswith(_OURS)
        and path not in named
        and not _MANIFEST.fullmatch(path)
        and found.modified_at < before
    ]
    delete_objects(gone)
    # Ids last: as long as they are there, a run that dies can be told to forget them again.
    delete_objects([uri for uri in files if not uri.endswith(_IDS)])
    delete_objects([uri for uri in files if uri.endswith(_IDS)])
    return [*gone, *files]
