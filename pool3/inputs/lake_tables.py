"""Recognises folders that are tables of a data lake, which must not be listed as plain files.

The folder of such a table also has files that do not belong to its newest version. Only its log
says which files do.
"""

from __future__ import annotations

from collections.abc import Sequence

from pool3 import storage
from pool3.errors import UsageError

DELTA, HUDI, ICEBERG, FEATURES = "Delta", "Hudi", "Iceberg", "feature"
# A feature table has _pool3 before its first commit, and _delta_log only after it.
_LOGS = {"_delta_log": DELTA, ".hoodie": HUDI, "_pool3": FEATURES}
_ICEBERG_SUFFIX = ".metadata.json"


def table_kind(folder: str) -> str | None:
    """Return the kind of a table, ``Delta`` for example, None when a folder is not a table.

    Parameters
    ----------
    folder
        Canonical uri.
    """
    for log, kind in _LOGS.items():
        if storage.is_directory(storage.join(folder, log)):
            return kind
    metadata = storage.join(folder, "metadata")
    if storage.is_directory(metadata) and any(
        entry.uri.endswith(_ICEBERG_SUFFIX) for entry in storage.list_objects(metadata)
    ):
        return ICEBERG
    return None


def kind_around(uri: str) -> tuple[str, str] | None:
    """Return the nearest folder above `uri` that is a table, and its kind; None without one."""
    top = 1 if storage.is_local(uri) else 3
    segments = uri.split("/")
    for depth in range(len(segments) - 1, top - 1, -1):
        folder = "/".join(segments[:depth]) or "/"
        kind = table_kind(folder)
        if kind is not None:
            return folder, kind
    return None


def table_above(segments: Sequence[str]) -> int | None:
    """Return how many segments of a path are those of a table, if the path is in the table's log.

    None for a file that is not part of a log.

    Examples
    --------
    >>> table_above(["features", "_delta_log", "00000000000000000000.json"])
    1
    >>> table_above(["a", "b.jpg"]) is None
    True
    """
    for depth, segment in enumerate(segments[:-1]):
        if segment in _LOGS:
            return depth
    if len(segments) > 1 and segments[-2] == "metadata" and segments[-1].endswith(_ICEBERG_SUFFIX):
        return len(segments) - 2
    return None


def require_no_table(folder: str) -> None:
    """Raise `UsageError` when a folder that should hold pictures is a table."""
    kind = table_kind(folder)
    if kind is not None:
        raise UsageError(
            f"expected a folder of pictures, found the {kind} table {folder}; name its "
            "--uri-column or --content-column to read it as a table of inputs"
        )
