"""Whether an index can take in what changed in its table, and which files of it that may be in."""

from __future__ import annotations

import logging

from pool3 import storage
from pool3.errors import StorageError
from pool3.features.table import FeatureTable
from pool3.index.format.manifest import Manifest
from pool3.storage.tables import TableFile, open_table, table_files

log = logging.getLogger(__name__)


def why_full_build(
    base: Manifest | None,
    table: FeatureTable,
    *,
    metric: str,
    n_trees: int,
    seed: int,
    vectors_dtype: str,
    dimension: int,
    model_id: str | None,
) -> str | None:
    """Return why an index has to be built from the whole table; None where changes suffice.

    Parameters
    ----------
    base
        The published snapshot; None when there is none.
    vectors_dtype
        As asked for: ``auto`` goes with either dtype.
    model_id
        The table's, None when it states none.
    """
    if base is None:
        return "no snapshot is published"
    if not base.trained_rows:
        return f"snapshot {base.snapshot_id} was written in an older format"
    if not base.rows:
        return f"snapshot {base.snapshot_id} has no rows"
    now = {
        "table": table.uri,
        "metric": metric,
        "n_trees": n_trees,
        "seed": seed,
        "dimension": dimension,
        "vectors_dtype": base.vectors_dtype if vectors_dtype == "auto" else vectors_dtype,
        "model_id": model_id or base.model_id,
    }
    before = {
        "table": base.table.uri,
        "metric": base.metric,
        "n_trees": base.n_trees,
        "seed": base.seed,
        "dimension": base.dimension,
        "vectors_dtype": base.vectors_dtype,
        "model_id": base.model_id,
    }
    for name, value in now.items():
        if value != before[name]:
            return f"{name} is {value}, and {before[name]} in snapshot {base.snapshot_id}"
    return None


def changed_files(
    table: FeatureTable, base: Manifest
) -> tuple[tuple[TableFile, ...], tuple[TableFile, ...]] | None:
    """Return the files that the table gained and lost since `base` was built from it.

    Returns
    -------
    The files gained and lost; None where that cannot be told, so that all rows are compared: of a
    foreign table, of one that was made anew at the same place, and where the version or one of the
    lost files is not there any more.
    """
    if table.version is None or base.table.version is None:
        return None
    try:
        before = open_table(table.uri, base.table.version)
        if before is None or not base.table_id == str(before.metadata().id) == table_id(table):
            return None
        old = {file.path: file for file in table_files(before)}
        new = {file.path: file for file in table.files}
        lost = tuple(file for path, file in old.items() if path not in new)
        if not all(storage.exists(table.file_uri(file)) for file in lost):
            return None
    except StorageError as error:
        log.info("all rows are compared: %s", error)
        return None
    return tuple(file for path, file in new.items() if path not in old), lost


def table_id(table: FeatureTable) -> str | None:
    """Return what Delta names a table by; None for a foreign one."""
    opened = None if table.foreign else open_table(table.uri, table.version)
    return None if opened is None else str(opened.metadata().id)
