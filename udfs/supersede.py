"""The task of extract-features that rewrites a file without the rows that a run has replaced."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from pool3.features.parts import PartWriter, part_name
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile
from udfs.spread import Batches, TaskFunction, summary

FILE_SCHEMA = T.StructType([T.StructField("file", T.StringType(), nullable=False)])


def file_rows(files: Sequence[TableFile]) -> pa.Table:
    """Return files as rows of `FILE_SCHEMA`."""
    return pa.table({"file": [json.dumps(file.as_dict()) for file in files]})


def rewrite_without(table: FeatureTable, ids: Any, run_id: str, dimension: int) -> TaskFunction:
    """Return the function for ``DataFrame.mapInArrow`` over rows that hold a file as JSON.

    Parameters
    ----------
    table
        The version that the run began from.
    ids
        Spark broadcast of the set of replaced ids.
    run_id, dimension
        For the names and row groups of the new parts.
    """

    def run(batches: Batches) -> Batches:
        for batch in batches:
            for text in batch.column("file").to_pylist():
                file = TableFile.from_dict(json.loads(text))
                rest = _rest(table, file, ids.value, run_id, dimension)
                yield summary({"file": rest.as_dict() if rest else None})

    return run


def _rest(
    table: FeatureTable, file: TableFile, ids: set[str], run_id: str, dimension: int
) -> TableFile | None:
    replaced = pa.array(sorted(ids), pa.string())
    with PartWriter(table.uri, part_name(run_id, 0), dimension) as part:
        for batch in table.read(file, columns=None):
            part.append(batch.filter(pc.invert(pc.is_in(batch.column("image_id"), replaced))))
        return part.finish()
