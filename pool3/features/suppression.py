"""The suppression list of a table: ids that were erased and must not be extracted again.

The list contains hashes of the ids, since the ids themselves were erased.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Set

from pool3 import storage
from pool3.errors import NotFound, UsageError

FORMAT_VERSION = 1


def suppressed_uri(table_uri: str) -> str:
    """Return the uri of a table's suppression list."""
    return storage.join(table_uri, "_pool3", "suppressed.json")


def read_suppressed(table_uri: str) -> frozenset[str]:
    """Return the hashes of the ids that a table suppresses; for `is_suppressed`.

    Raises
    ------
    UsageError
        The list has another format, because a newer release wrote it or it is damaged.
    """
    uri = suppressed_uri(table_uri)
    try:
        document = json.loads(storage.fetch(uri))
        version, hashes = document["format_version"], document["sha256"]
    except NotFound:
        return frozenset()
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"expected the JSON of a suppression list in {uri}, found something else ({error}); "
            "restore it from a backup, since without it erased pictures would be extracted again"
        ) from error
    if version != FORMAT_VERSION:
        raise UsageError(
            f"expected format_version {FORMAT_VERSION} in {uri}, found {version!r}; use the "
            "release of pool3 that wrote it, or a newer one"
        )
    return frozenset(hashes)


def suppress(table_uri: str, ids: Iterable[str]) -> int:
    """Add ids to a table's list; returns how many were new.

    The caller must hold the table's lease, so that two runs never write the list at the same time.
    """
    before = read_suppressed(table_uri)
    after = before.union(map(_hash, ids))
    if after != before:
        document = {"format_version": FORMAT_VERSION, "sha256": sorted(after)}
        storage.put(suppressed_uri(table_uri), json.dumps(document).encode())
    return len(after) - len(before)


def is_suppressed(image_id: str, suppressed: Set[str]) -> bool:
    """Return whether an id is on the list that `read_suppressed` returned."""
    return bool(suppressed) and _hash(image_id) in suppressed


def _hash(image_id: str) -> str:
    return hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()
