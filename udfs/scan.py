"""The first pass of build-index: what can be indexed, and the sums that PCA is fitted from."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyspark.sql import types as T

from pool3.features.table import FeatureTable
from pool3.features.vectors import LeftOut, usable_rows
from pool3.index.reduction import Gram
from udfs.files import files_of
from udfs.spread import Batches, TaskFunction, summary

ID_SCHEMA = T.StructType([T.StructField("image_id", T.StringType(), nullable=False)])


def scan_files(table: FeatureTable, *, dimension: int, metric: str) -> TaskFunction:
    """Return the function that adds up the usable vectors of some files.

    Its summary is a `LeftOut` as a dict; its payload a `Gram` as bytes (8 d^2 of them).
    """

    def run(batches: Batches) -> Batches:
        left_out = LeftOut()
        gram = Gram(metric, dimension)
        for file in files_of(batches):
            for rows in usable_rows(
                table, file, dimension=dimension, metric=metric, left_out=left_out
            ):
                gram.add(rows.vectors)
        yield summary(left_out.as_dict(), gram.to_bytes())

    return run


def list_ids(table: FeatureTable) -> TaskFunction:
    """Return the function that yields the ids of some files, as rows of `ID_SCHEMA`."""

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            for batch in table.read(file, ["image_id"]):
                ids = batch.column(0).cast(pa.string()).drop_null()
                yield pa.RecordBatch.from_arrays([ids], ["image_id"])

    return run


def merged(summaries: list[dict[str, Any]], metric: str) -> tuple[Gram, LeftOut]:
    """Add up what the tasks of `scan_files` returned, in the order of their partitions."""
    left_out = LeftOut()
    gram: Gram | None = None
    for task in summaries:
        part = Gram.from_bytes(task.pop("payload"), metric)
        if gram is None:
            gram = part
        else:
            gram.merge(part)
        left_out.merge(LeftOut.from_dict(task))
    if gram is None:
        gram = Gram(metric, 0)
    return gram, left_out
