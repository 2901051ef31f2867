"""The tasks of compact-features: find the files that hold some ids, and merge groups of files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import types as T

from pool3.features.merge import merge_files
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile
from udfs.tasks import Batches, TaskFunction, summary

GROUP_SCHEMA = T.StructType([T.StructField("group", T.StringType(), nullable=False)])


def group_rows(groups: Sequence[Sequence[TableFile]]) -> pa.Table:
    """Return groups of files as rows of `GROUP_SCHEMA`."""
    return pa.table({"group": [json.dumps([file.as_dict() for file in group]) for group in groups]})


def merge_group(table: FeatureTable, erased: Any, run_id: str, schema: bytes) -> TaskFunction:
    """Return the function that makes one file of each group; a summary of each is a `Merged`.

    Parameters
    ----------
    table
        The version that the run began from.
    erased
        Spark broadcast of the set of ids whose rows are left out.
    run_id
        For the names of the new parts.
    schema
        Arrow schema of the table, serialised.
    """

    def run(batches: Batches) -> Batches:
        context = TaskContext.get()
        number = context.partitionId() if context is not None else 0
        columns = pa.ipc.read_schema(pa.py_buffer(schema))
        for batch in batches:
            for text in batch.column("group").to_pylist():
                merged = merge_files(
                    table,
                    [TableFile.from_dict(fields) for fields in json.loads(text)],
                    without=erased.value,
                    schema=columns,
                    run_id=run_id,
                    number=number,
                )
                yield summary(merged.as_dict())

    return run
