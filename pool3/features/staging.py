"""A temporary folder of a run inside its table, for files that its tasks read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pool3 import storage
from pool3.storage.removal import delete_objects


@contextmanager
def staged(table_uri: str, run_id: str) -> Iterator[str]:
    """Yield the uri of the folder; it is deleted when the block ends, even by an error."""
    place = storage.join(table_uri, "_pool3", "runs", run_id)
    try:
        yield place
    finally:
        _remove(place, table_uri)


def _remove(place: str, table_uri: str) -> None:
    if not storage.is_local(place):
        delete_objects(entry.uri for entry in storage.list_objects(place))
        return
    shutil.rmtree(place, ignore_errors=True)
    # A run that was refused must not leave empty folders.
    with suppress(OSError):
        for folder in (Path(place).parent, Path(place).parent.parent, Path(table_uri)):
            folder.rmdir()
