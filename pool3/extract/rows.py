"""Rows of the feature table, built from prepared pictures and their features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from pool3.extract.reuse import Extracted
from pool3.features.schema import FAILED, OK
from pool3.images.decode import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureInput:
    """One input, with the state of its existing row in the table.

    Attributes
    ----------
    image_id, uri, etag, modified_at, meta
        As in the feature table.
    size
        Bytes, None if unknown.
    content
        The bytes, if the input contains them; then nothing is fetched.
    refused
        Why the uri must not be fetched; such an input becomes a row with the error ``denied``.
    existing_ok
        Whether the table has features of this id already.
    existing_sha256
        Digest of the bytes of the existing row, if the input has no etag or time that would show a
        change. With equal bytes the row stays as it is.
    """

    image_id: str
    uri: str
    size: int | None = None
    etag: str | None = None
    modified_at: datetime | None = None
    meta: Mapping[str, Any] | None = None
    content: bytes | None = None
    refused: str | None = None
    existing_ok: bool = False
    existing_sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RowContext:
    """Values that are the same in every row of a run."""

    run_id: str
    model_id: str
    engine: str
    precision: str
    dimension: int
    schema: pa.Schema


@dataclass(slots=True, eq=False)
class Prepared:
    """One input after fetching and decoding: a picture, an error with its code, or neither.

    An `unchanged` input has the bytes of its existing row. A `reused` one has the bytes of another
    picture of the table or the task, whose features are copied.
    """

    source: PictureInput
    picture: Picture | None = None
    error: str | None = None
    detail: str | None = None
    sha256: str | None = None
    length: int | None = None
    fetch_s: float = 0.0
    decode_s: float = 0.0
    unchanged: bool = False
    reused: bool = False


def record_batch(
    rows: list[Prepared], results: list[Extracted | None], context: RowContext
) -> pa.RecordBatch:
    """Return rows of the feature table; a result is None where a row has no features."""
    count = len(rows)
    columns: dict[str, pa.Array | list[object]] = {
        "image_id": [row.source.image_id for row in rows],
        "uri": [row.source.uri for row in rows],
        "status": [OK if row.error is None else FAILED for row in rows],
        "error": [row.error for row in rows],
        "error_detail": [row.detail for row in rows],
        "features": _feature_column(results, context.schema.field("features").type),
        "content_sha256": [row.sha256 for row in rows],
        "content_length": [row.length for row in rows],
        "etag": [row.source.etag for row in rows],
        "modified_at": [row.source.modified_at for row in rows],
        "meta": [row.source.meta for row in rows],
        "model_id": [context.model_id] * count,
        "run_id": [context.run_id] * count,
        "extracted_at": [datetime.now(UTC)] * count,
    }
    for name in ("width", "height", "format", "thumbnail"):
        columns[name] = [None if result is None else getattr(result, name) for result in results]
    for name in ("engine", "precision"):
        columns[name] = [getattr(result or context, name) for result in results]
    arrays = [
        columns[column.name]
        if isinstance(columns[column.name], pa.Array)
        else pa.array(columns[column.name], column.type)
        for column in context.schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=context.schema)


def _feature_column(results: list[Extracted | None], kind: pa.DataType) -> pa.Array:
    """Return the vectors as one list per row, null where there is none."""
    vectors = [result.features for result in results if result is not None]
    lengths = [0 if result is None else len(result.features) for result in results]
    flat = np.concatenate(vectors) if vectors else np.empty(0, np.float32)
    return pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)),
        pa.array(flat),
        type=kind,
        mask=pa.array([result is None for result in results]),
    )
