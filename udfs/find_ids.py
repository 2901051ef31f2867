"""Looks for picture ids in files: of an index, whichever snapshot uses them, or of a table."""

from __future__ import annotations

from collections.abc import Set

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from pool3 import storage
from pool3.features.column_types import id_texts
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile
from udfs.tasks import Batches, Broadcast, TaskFunction, files_of, summary

PATH_SCHEMA = T.StructType([T.StructField("path", T.StringType(), nullable=False)])


def find_ids(index_uri: str, ids: Broadcast[Set[str]]) -> TaskFunction:
    """Return the function that looks for ids in ``ids.arrow`` files of an index.

    Its summaries are ``{"path", "ids"}`` of each file that contains any of them. ``ids`` is null
    for a file that cannot be read, which may contain any of them.
    """

    def run(batches: Batches) -> Batches:
        return index_files_with_ids(batches, index_uri, ids.value)

    return run


def index_files_with_ids(batches: Batches, index_uri: str, ids: Set[str]) -> Batches:
    """Yield a summary of each file in the column ``path`` that may contain any of the ids."""
    wanted = pa.array(sorted(ids), pa.string())
    for batch in batches:
        for path in batch.column("path").to_pylist():
            matches = _ids_in_index_file(storage.join(index_uri, path), wanted)
            if matches is None or matches:
                yield summary({"path": path, "ids": matches})


def _ids_in_index_file(uri: str, wanted: pa.Array) -> list[str] | None:
    matches: list[str] = []
    try:
        with storage.open_input(uri) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                ids = reader.get_batch(number).column("image_id")
                matches += ids.filter(pc.is_in(ids, wanted)).to_pylist()
    except (pa.ArrowException, KeyError, OSError):
        return None
    return matches


def find_files_with_ids(table: FeatureTable, ids: Broadcast[Set[str]]) -> TaskFunction:
    """Return the function that looks for rows of ids in files of a feature table.

    Its summaries are ``{"path", "ids"}`` of each file that contains any of them. ``ids`` is null
    for a file that cannot be read or has no column of ids.

    Parameters
    ----------
    table
        The files may belong to any version of it, or to none.
    ids
        The ids.
    """

    def run(batches: Batches) -> Batches:
        return table_files_with_ids(batches, table, ids.value)

    return run


def table_files_with_ids(batches: Batches, table: FeatureTable, ids: Set[str]) -> Batches:
    """Yield a summary of each file that may contain rows of any of the ids."""
    wanted = pa.array(sorted(ids), pa.string())
    for file in files_of(batches):
        matches = _ids_in_table_file(table, file, wanted)
        if matches is None or matches:
            yield summary({"path": file.path, "ids": matches})


def _ids_in_table_file(table: FeatureTable, file: TableFile, wanted: pa.Array) -> list[str] | None:
    matches: list[str] = []
    try:
        for batch in table.read(file, ["image_id"]):
            if batch.num_columns == 0:
                return None
            ids = id_texts(batch.column(0))
            matches += ids.filter(pc.is_in(ids, wanted)).to_pylist()
    except (pa.ArrowException, OSError):
        return None
    return matches
