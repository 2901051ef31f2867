"""The first pass of build-index: what can be indexed, and the sums that PCA is fitted from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import types as T

from pool3.features.table import FeatureTable
from pool3.features.vectors import SkippedRows, usable_rows
from pool3.index.recall.picker import SamplePicker
from pool3.index.reduction import Gram
from udfs.tasks import Batches, TaskFunction, files_of, summary

ID_SCHEMA = T.StructType([T.StructField("image_id", T.StringType(), nullable=False)])


def scan_files(table: FeatureTable, *, dimension: int, metric: str) -> TaskFunction:
    """Return the function that adds up the usable vectors of some files.

    Its summary is a `SkippedRows` as a dict and the length of a `Gram` in bytes (8 d^2); its
    payload that and a `SamplePicker`.
    """

    def run(batches: Batches) -> Batches:
        skipped_rows = SkippedRows()
        gram = Gram(metric, dimension)
        picker = SamplePicker(dimension)
        for file in files_of(batches):
            for rows in usable_rows(
                table, file, dimension=dimension, metric=metric, skipped_rows=skipped_rows
            ):
                gram.add(rows.vectors)
                picker.add(rows.ids.to_pylist(), rows.vectors)
        sums = gram.to_bytes()
        facts = {"skipped_rows": skipped_rows.as_dict(), "gram_bytes": len(sums)}
        yield summary(facts, sums + picker.to_bytes())

    return run


def list_ids(table: FeatureTable) -> TaskFunction:
    """Return the function that yields the ids of some files, as rows of `ID_SCHEMA`."""

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            for batch in table.read(file, ["image_id"]):
                ids = batch.column(0).cast(pa.string()).drop_null()
                yield pa.RecordBatch.from_arrays([ids], ["image_id"])

    return run


@dataclass(frozen=True)
class Scanned:
    """What the first pass found: sums for the PCA, what cannot be indexed, the sample queries."""

    gram: Gram
    skipped_rows: SkippedRows
    picker: SamplePicker


def merged(summaries: list[dict[str, Any]], *, metric: str, dimension: int) -> Scanned:
    """Add up what the tasks of `scan_files` returned, in the order of their partitions."""
    whole = Scanned(Gram(metric, dimension), SkippedRows(), SamplePicker(dimension))
    for task in summaries:
        payload, length = task.pop("payload"), task["gram_bytes"]
        whole.gram.merge(Gram.from_bytes(payload[:length], metric))
        whole.picker.merge(SamplePicker.from_bytes(payload[length:]))
        whole.skipped_rows.merge(SkippedRows.from_dict(task["skipped_rows"]))
    return whole
