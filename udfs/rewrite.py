"""Rewriting files of the table whose rows were extracted anew, changed otherwise, or are gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pool3.extract.actions import LEFT, META
from pool3.features.parts import PartWriter
from pool3.features.schema import GONE
from pool3.features.table import FeatureTable
from pool3.storage.names import part_name
from udfs.tasks import Batches, TaskFunction, summary

Edits = Mapping[str, Mapping[str, Any]]


def rewrite(
    table: FeatureTable, kept: Any, run_id: str, dimension: int, schema: pa.Schema
) -> TaskFunction:
    """Return the function for ``DataFrame.mapInArrow`` over rows of a plan, whole files to a task.

    Parameters
    ----------
    table
        The version that the run began from.
    kept
        Spark broadcast of the set of ids whose old row stays, though it was tried again.
    run_id, dimension, schema
        Of the new parts.
    """

    def run(batches: Batches) -> Batches:
        by_file: dict[int, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        for row in edits(batches):
            if row["image_id"] not in kept.value:
                by_file[row["file"]][row["image_id"]] = row  # type: ignore[index]
        for number, changes in sorted(by_file.items()):
            with PartWriter(table.uri, part_name(run_id, number), dimension, schema) as part:
                for batch in table.read(table.files[number], columns=None):
                    part.append(_edited(batch, changes, run_id))
                file = part.finish()
            yield summary({"number": number, "file": None if file is None else file.as_dict()})

    return run


def _edited(batch: pa.RecordBatch, changes: Edits, run_id: str) -> pa.RecordBatch:
    """Return a batch without the rows that were extracted anew, the others edited."""
    ids = batch.column("image_id").to_pylist()
    actions = [changes[found]["action"] if found in changes else None for found in ids]
    stays = pa.array([action in (None, META, LEFT) for action in actions])
    batch, ids = batch.filter(stays), pc.filter(pa.array(ids), stays).to_pylist()
    actions = [action for action in actions if action in (None, META, LEFT)]
    if META in actions:
        values = batch.column("meta").to_pylist()
        for at, action in enumerate(actions):
            if action == META:
                values[at] = changes[ids[at]]["meta"]
        batch = _with(batch, "meta", values)
    if LEFT in actions:
        batch = _without_features(batch, [action == LEFT for action in actions], run_id)
    return batch


def _without_features(batch: pa.RecordBatch, gone: list[bool], run_id: str) -> pa.RecordBatch:
    mask = pa.array(gone)
    for name, value in (("status", GONE), ("run_id", run_id), ("extracted_at", datetime.now(UTC))):
        kind = batch.schema.field(name).type
        column = pc.if_else(mask, pa.scalar(value, kind), batch.column(name))
        batch = batch.set_column(
            batch.schema.get_field_index(name), batch.schema.field(name), column
        )
    for name in ("features", "thumbnail", "error", "error_detail"):
        if name in batch.schema.names:
            values = batch.column(name).to_pylist()
            left = [None if is_gone else value for is_gone, value in zip(gone, values, strict=True)]
            batch = _with(batch, name, left)
    return batch


def _with(batch: pa.RecordBatch, name: str, values: list[Any]) -> pa.RecordBatch:
    field = batch.schema.field(name)
    return batch.set_column(batch.schema.get_field_index(name), field, pa.array(values, field.type))


def edits(batches: Batches) -> Iterator[dict[str, object]]:
    """Yield the rows of a plan as a task receives them."""
    for batch in batches:
        yield from batch.to_pylist()
