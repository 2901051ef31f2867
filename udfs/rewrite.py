"""Rewrites files of a feature table: rows that were extracted again, have new meta, or are gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pool3.extract.actions import LEFT, META
from pool3.features.parts import PartWriter
from pool3.features.schema import GONE
from pool3.features.table import FeatureTable
from pool3.storage.names import part_name
from udfs.tasks import Batches, Broadcast, TaskFunction, summary

#: Rows of a plan by image_id.
Edits = Mapping[str, Mapping[str, Any]]


def rewrite(
    table: FeatureTable,
    retained: Broadcast[Set[str]],
    run_id: str,
    dimension: int,
    schema: pa.Schema,
) -> TaskFunction:
    """Return the function for ``DataFrame.mapInArrow`` that rewrites the files of planned rows.

    The rows given to one task must contain all planned rows of each of their files.

    Parameters
    ----------
    table
        The version that the run began from.
    retained
        Ids whose existing row stays, although they were extracted again.
    run_id, dimension, schema
        Of the new files; see `pool3.features.parts.PartWriter`.
    """

    def run(batches: Batches) -> Batches:
        for number, edits in sorted(edits_by_file(batches, retained.value).items()):
            rows = table.read(table.files[number], columns=None)
            with PartWriter(table.uri, part_name(run_id, number), dimension, schema) as writer:
                for batch in rows:
                    writer.append(edited(batch, edits, run_id))
                file = writer.finish()
            yield summary({"number": number, "file": None if file is None else file.as_dict()})

    return run


def edits_by_file(batches: Batches, retained: Set[str]) -> dict[int, Edits]:
    """Group rows of a plan by file, without the ids in `retained`."""
    by_file: dict[int, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for batch in batches:
        for row in batch.to_pylist():
            if row["image_id"] not in retained:
                by_file[row["file"]][row["image_id"]] = row
    return dict(by_file)


def edited(batch: pa.RecordBatch, edits: Edits, run_id: str) -> pa.RecordBatch:
    """Return a batch without the rows that were extracted again, and with the other edits made."""
    ids = batch.column("image_id").to_pylist()
    actions = [edits[image_id]["action"] if image_id in edits else None for image_id in ids]
    stays = pa.array([action in (None, META, LEFT) for action in actions])
    batch, ids = batch.filter(stays), pc.filter(pa.array(ids), stays).to_pylist()
    actions = [action for action in actions if action in (None, META, LEFT)]
    if META in actions:
        values = batch.column("meta").to_pylist()
        for at, action in enumerate(actions):
            if action == META:
                values[at] = edits[ids[at]]["meta"]
        batch = _with_column(batch, "meta", values)
    if LEFT in actions:
        batch = _marked_gone(batch, [action == LEFT for action in actions], run_id)
    return batch


def _marked_gone(batch: pa.RecordBatch, gone: list[bool], run_id: str) -> pa.RecordBatch:
    """Return a batch in which some rows have the status ``gone`` and no features."""
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
            cleared = [
                None if is_gone else value for is_gone, value in zip(gone, values, strict=True)
            ]
            batch = _with_column(batch, name, cleared)
    return batch


def _with_column(batch: pa.RecordBatch, name: str, values: list[Any]) -> pa.RecordBatch:
    field = batch.schema.field(name)
    return batch.set_column(batch.schema.get_field_index(name), field, pa.array(values, field.type))
