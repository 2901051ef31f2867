"""The first pass of build-index: counts of usable rows, the sums that PCA needs, sample queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from pool3.features.table import FeatureTable
from pool3.features.vectors import SkippedRows, ids_of, usable_rows
from pool3.index.recall.picker import SamplePicker
from pool3.index.reduction.gram import Gram
from udfs.tasks import Batches, TaskFunction, files_of, summary

ID_SCHEMA = T.StructType([T.StructField("image_id", T.StringType(), nullable=False)])


def scan_files(table: FeatureTable, *, dimension: int, metric: str) -> TaskFunction:
    """Return the function that adds up the usable vectors of files.

    Its summary is a `SkippedRows` as a dict and the length of a `Gram` in bytes (8 d^2); its
    payload is the `Gram`, followed by a `SamplePicker`.
    """

    def run(batches: Batches) -> Batches:
        yield scan_summary(scanned_files(batches, table, dimension, metric))

    return run


def list_ids(table: FeatureTable) -> TaskFunction:
    """Return the function that yields the ids of files, as rows of `ID_SCHEMA`."""

    def run(batches: Batches) -> Batches:
        return table_ids(batches, table)

    return run


def table_ids(batches: Batches, table: FeatureTable) -> Batches:
    """Yield the ids of files, without null and empty ones."""
    for file in files_of(batches):
        for batch in table.read(file, ["image_id"]):
            ids = ids_of(batch)
            ids = ids.filter(pc.not_equal(ids, ""))
            yield pa.RecordBatch.from_arrays([ids], ["image_id"])


@dataclass(frozen=True)
class Scanned:
    """Result of the first pass: sums for the PCA, rows that cannot be indexed, sample queries."""

    gram: Gram
    skipped_rows: SkippedRows
    picker: SamplePicker


def scanned_files(batches: Batches, table: FeatureTable, dimension: int, metric: str) -> Scanned:
    """Add up the usable vectors of files."""
    scanned = Scanned(Gram(metric, dimension), SkippedRows(), SamplePicker(dimension))
    for file in files_of(batches):
        for rows in usable_rows(
            table, file, dimension=dimension, metric=metric, skipped_rows=scanned.skipped_rows
        ):
            scanned.gram.add(rows.vectors)
            scanned.picker.add(rows.ids.to_pylist(), rows.vectors)
    return scanned


def scan_summary(scanned: Scanned) -> pa.RecordBatch:
    """Return the summary of a task, which `merged` reads."""
    sums = scanned.gram.to_bytes()
    values = {"skipped_rows": scanned.skipped_rows.as_dict(), "gram_bytes": len(sums)}
    return summary(values, sums + scanned.picker.to_bytes())


def merged(summaries: list[dict[str, Any]], *, metric: str, dimension: int) -> Scanned:
    """Add up the summaries of `scan_files`, in the order of their partitions."""
    whole = Scanned(Gram(metric, dimension), SkippedRows(), SamplePicker(dimension))
    for task in summaries:
        payload, length = task.pop("payload"), task["gram_bytes"]
        whole.gram.merge(Gram.from_bytes(payload[:length], metric))
        whole.picker.merge(SamplePicker.from_bytes(payload[length:]))
        whole.skipped_rows.merge(SkippedRows.from_dict(task["skipped_rows"]))
    return whole
