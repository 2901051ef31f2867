"""Merges groups of files of a feature table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set

import pyarrow as pa
from pyspark.sql import types as T

from pool3.features.merge import Merged, merge_files
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile
from udfs.tasks import Batches, Broadcast, TaskFunction, partition_number, summary

GROUP_SCHEMA = T.StructType([T.StructField("group", T.StringType(), nullable=False)])


def group_rows(groups: Sequence[Sequence[TableFile]]) -> pa.Table:
    """Return groups of files as rows of `GROUP_SCHEMA`."""
    return pa.table({"group": [json.dumps([file.as_dict() for file in group]) for group in groups]})


def merge_group(
    table: FeatureTable, erased: Broadcast[Set[str]], run_id: str, schema: bytes
) -> TaskFunction:
    """Return the function that merges each group into one file; its summaries are `Merged`.

    Parameters
    ----------
    table
        The version that the run began from.
    erased
        Ids whose rows are left out.
    run_id
        Part of the names of the new files.
    schema
        Arrow schema of the table, serialised.
    """

    def run(batches: Batches) -> Batches:
        columns = pa.ipc.read_schema(pa.py_buffer(schema))
        number = partition_number()
        for merged in merged_groups(batches, table, erased.value, columns, run_id, number):
            yield summary(merged.as_dict())

    return run


def merged_groups(
    batches: Batches,
    table: FeatureTable,
    erased: Set[str],
    schema: pa.Schema,
    run_id: str,
    number: int,
) -> Iterator[Merged]:
    """Merge each group of files; yields what each merge did."""
    for batch in batches:
        for text in batch.column("group").to_pylist():
            yield merge_files(
                table,
                [TableFile.from_dict(fields) for fields in json.loads(text)],
                without=erased,
                schema=schema,
                run_id=run_id,
                number=number,
            )
