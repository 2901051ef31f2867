"""Which files of an index hold some pictures: looked for in the files, whoever names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from pool3 import storage
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile
from udfs.tasks import Batches, TaskFunction, files_of, summary

PATH_SCHEMA = T.StructType([T.StructField("path", T.StringType(), nullable=False)])


def find_ids(index_uri: str, ids: Any) -> TaskFunction:
    """Return the function that tells which of some files hold some ids.

    Its summaries are ``{"path", "ids"}`` of such a file, with null for ids where the file cannot be
    read.

    Parameters
    ----------
    ids
        Spark broadcast of the set of ids.
    """

    def run(batches: Batches) -> Batches:
        wanted = pa.array(sorted(ids.value), pa.string())
        for batch in batches:
            for path in batch.column("path").to_pylist():
                found = _ids_in(storage.join(index_uri, path), wanted)
                if found is None or found:
                    yield summary({"path": path, "ids": found})

    return run


def _ids_in(uri: str, wanted: pa.Array) -> Sequence[str] | None:
    found: list[str] = []
    try:
        with storage.open_input(uri) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                ids = reader.get_batch(number).column("image_id")
                found += ids.filter(pc.is_in(ids, wanted)).to_pylist()
    except (pa.ArrowException, KeyError, OSError):
        return None
    return found


def find_files_with_ids(table: FeatureTable, ids: Any) -> TaskFunction:
    """Return the function that tells which files hold rows of some ids.

    Its summaries are ``{"path", "ids"}`` of such a file, with null for ids where the file cannot be
    read or has no ids.

    Parameters
    ----------
    table
        The files may be of any version of it, or of none.
    ids
        Spark broadcast of the set of ids.
    """

    def run(batches: Batches) -> Batches:
        wanted = pa.array(sorted(ids.value), pa.string())
        for file in files_of(batches):
            found = _ids_in_part(table, file, wanted)
            if found is None or found:
                yield summary({"path": file.path, "ids": found})

    return run


def _ids_in_part(table: FeatureTable, file: TableFile, wanted: pa.Array) -> list[str] | None:
    found: list[str] = []
    try:
        for batch in table.read(file, ["image_id"]):
            if batch.num_columns == 0:
                return None
            ids = batch.column(0).cast(pa.string())
            found += ids.filter(pc.is_in(ids, wanted)).to_pylist()
    except (pa.ArrowException, OSError):
        return None
    return found
