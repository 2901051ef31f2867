"""Whether a delta suffices to update an index, and which files of its table changed."""

from __future__ import annotations

import logging

from pool3 import storage
from pool3.errors import StorageError, UsageError
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
    """Return why an index must be built from the whole table; None where a delta suffices.

    Parameters
    ----------
    base
        The published snapshot; None when there is none.
    vectors_dtype
        The requested one; ``auto`` accepts either dtype.
    model_id
        The table's, None when it has none.
    """
    if base is None:
        return "no snapshot is published"
    if not base.trained_rows:
        return f"snapshot {base.snapshot_id} was written in an older format"
    if not base.rows:
        return f"snapshot {base.snapshot_id} has no rows"
    requested = {
        "table": table.uri,
        "metric": metric,
        "n_trees": n_trees,
        "seed": seed,
        "dimension": dimension,
        "vectors_dtype": base.vectors_dtype if vectors_dtype == "auto" else vectors_dtype,
        "model_id": model_id or base.model_id,
    }
    existing = {
        "table": base.table.uri,
        "metric": base.metric,
        "n_trees": base.n_trees,
        "seed": base.seed,
        "dimension": base.dimension,
        "vectors_dtype": base.vectors_dtype,
        "model_id": base.model_id,
    }
    for name, value in requested.items():
        if value != existing[name]:
            return f"{name} is {value}, and {existing[name]} in snapshot {base.snapshot_id}"
    return None


def changed_files(
    table: FeatureTable, base: Manifest
) -> tuple[tuple[TableFile, ...], tuple[TableFile, ...]] | None:
    """Return the files that the table gained and lost since `base` was built from it.

    Returns
    -------
    tuple of tuples
        The files gained and the files lost. None where that is unknown, so that all rows must be
        compared: the table has no log, another table replaced it at the same path, its log lacks
        numbers of rows, or the version or one of the lost files was deleted.
    """
    if table.version is None or base.table.version is None:
        return None
    try:
        before = open_table(table.uri, base.table.version)
        if before is None or not base.table_id == str(before.metadata().id) == table_id(table):
            return None
        old = set(table_files(before, table.uri))
        new = set(table.files)
        if any(not file.rows for file in old ^ new):
            return None  # the log does not say how many rows there are to compare
        lost = tuple(sorted(old - new, key=lambda file: file.path))
        if not all(storage.exists(table.file_uri(file)) for file in lost):
            return None
    except (StorageError, UsageError) as error:
        log.info("all rows are compared: %s", error)
        return None
    return tuple(sorted(new - old, key=lambda file: file.path)), lost


def table_id(table: FeatureTable) -> str | None:
    """Return Delta's id of a table; None for a table without a log."""
    opened = None if table.version is None else open_table(table.uri, table.version)
    return None if opened is None else str(opened.metadata().id)
