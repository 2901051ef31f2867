"""The rows of a feature table, made from prepared pictures and their features."""

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
    """One input, and what the table knows of it.

    Attributes
    ----------
    image_id, uri, etag, modified_at, meta
        As in the feature table; `size` is in bytes, None where nobody told.
    content
        The bytes, where the input holds them; then nothing is fetched.
    refused
        Why the uri may not be fetched; such an input is a row with the error ``denied``.
    known_ok
        The table holds features of this id already.
    known_sha256
        Digest of the bytes that those were made from, where the input tells nothing by which a
        change could be seen: with equal bytes, the row stays as it is.
    """

    image_id: str
    uri: str
    size: int | None = None
    etag: str | None = None
    modified_at: datetime | None = None
    meta: Mapping[str, Any] | None = None
    content: bytes | None = None
    refused: str | None = None
    known_ok: bool = False
    known_sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RowContext:
    """What is the same in every row of a run."""

    run_id: str
    model_id: str
    engine: str
    precision: str
    dimension: int
    schema: pa.Schema


@dataclass(slots=True, eq=False)
class Prepared:
    """One input after fetching and decoding: a picture, an error with its code, or a `twin`.

    A twin has the bytes of a picture that the table or this task has done already.
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
    twin: bool = False


def record_batch(
    rows: list[Prepared], done: list[Extracted | None], facts: RowContext
) -> pa.RecordBatch:
    """Return rows of the feature table; `done` is None where a row has no features."""
    count = len(rows)
    columns: dict[str, pa.Array | list[object]] = {
        "image_id": [row.source.image_id for row in rows],
        "uri": [row.source.uri for row in rows],
        "status": [OK if row.error is None else FAILED for row in rows],
        "error": [row.error for row in rows],
        "error_detail": [row.detail for row in rows],
        "features": _feature_column(done, facts.schema.field("features").type),
        "content_sha256": [row.sha256 for row in rows],
        "content_length": [row.length for row in rows],
        "etag": [row.source.etag for row in rows],
        "modified_at": [row.source.modified_at for row in rows],
        "meta": [row.source.meta for row in rows],
        "model_id": [facts.model_id] * count,
        "run_id": [facts.run_id] * count,
        "extracted_at": [datetime.now(UTC)] * count,
    }
    for name in ("width", "height", "format", "thumbnail"):
        columns[name] = [None if found is None else getattr(found, name) for found in done]
    for name in ("engine", "precision"):
        columns[name] = [getattr(facts if found is None else found, name) for found in done]
    arrays = [
        columns[column.name]
        if isinstance(columns[column.name], pa.Array)
        else pa.array(columns[column.name], column.type)
        for column in facts.schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=facts.schema)


def _feature_column(done: list[Extracted | None], kind: pa.DataType) -> pa.Array:
    """Lay the vectors out as one list per row, null where there is none."""
    vectors = [found.features for found in done if found is not None]
    lengths = [0 if found is None else len(found.features) for found in done]
    flat = np.concatenate(vectors) if vectors else np.empty(0, np.float32)
    return pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)),
        pa.array(flat),
        type=kind,
        mask=pa.array([found is None for found in done]),
    )
