"""Feature tables of a few rows, written as tasks write them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pool3.features.parts import PartWriter
from pool3.features.schema import FEATURE_SCHEMA
from pool3.features.table import FeatureTable, own_table
from pool3.storage.names import part_name
from pool3.storage.tables import TableFile, commit


def row(image_id: str, **others: Any) -> dict[str, Any]:
    """An ok row whose feature follows from its id; `others` replace columns."""
    code = sum(image_id.encode())
    return {
        "image_id": image_id, "uri": f"/photos/{image_id}", "status": "ok", "model_id": "m",
        "engine": "e", "precision": "p", "run_id": "r", "features": [float(code), 1.0],
        "extracted_at": datetime(2026, 1, 1, tzinfo=UTC), **others,
    }  # fmt: skip


def write_part(
    uri: str, rows: Sequence[dict[str, Any]], schema: pa.Schema = FEATURE_SCHEMA
) -> TableFile:
    with PartWriter(uri, part_name("run", 0), 2, schema) as writer:
        writer.append(pa.RecordBatch.from_pylist(list(rows), schema=schema))
        file = writer.finish()
    assert file is not None
    return file


def put(
    uri: str,
    added: Sequence[TableFile],
    removed: Sequence[TableFile] = (),
    schema: pa.Schema = FEATURE_SCHEMA,
) -> FeatureTable:
    """Commit over the newest version; returns the table as it is then."""
    before = own_table(uri)
    commit(
        uri,
        schema=schema,
        added=added,
        removed=removed,
        read_version=None if before is None else before.version,
        run_id="run",
        custom_metadata={"job": "test"},
    )
    return opened(uri)


def opened(uri: str) -> FeatureTable:
    table = own_table(uri)
    assert table is not None
    return table
