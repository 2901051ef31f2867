"""The feature table of `benchmarks.index_million`, and the true neighbours of its queries."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.rows import in_processes
from benchmarks.vectors import BLOCK_ROWS, DIMENSION, Array, Clustered, drawn, queries_of

GENERATOR = Clustered()
QUERIES = 500
KNOWN = 100
BLOCKS_A_PART = 5


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Rows that one file of the table takes, from the beginning of a block on."""

    table: str
    number: int
    start: int
    rows: int
    model_id: str


def units(vectors: Array) -> Array:
    """Return rows of unit length, float32."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_part(part: _Part) -> tuple[dict[str, Any], Array, Array]:
    """Write one file of the table; returns what a commit needs, and its rows nearest to queries.

    These are their numbers, int64 (n, 100), and 1 - cosine, float32.
    """
    from pool3.features.parts import PartWriter
    from pool3.features.schema import FEATURE_SCHEMA
    from pool3.storage.names import part_name

    asked = queries()
    nearest = (np.full((QUERIES, 0), -1), np.zeros((QUERIES, 0), np.float32))
    name = part_name("benchmark", part.number)
    with PartWriter(part.table, name, DIMENSION, FEATURE_SCHEMA) as writer:
        row = part.start
        for drawn_rows in drawn(GENERATOR, part.rows, part.start):
            rows = drawn_rows.astype(np.float16).astype(np.float32)
            numbers = np.arange(row, row + len(rows))
            writer.append(_as_batch(rows, numbers, part.model_id))
            here = np.broadcast_to(numbers, (QUERIES, len(rows)))
            nearest = merged(nearest, (here, 1 - asked @ units(rows).T))
            row += len(rows)
        file = writer.finish()
    assert file is not None
    return file.as_dict(), *nearest


def _as_batch(rows: Array, numbers: Array, model_id: str) -> pa.RecordBatch:
    ids = [f"/lake/{number:09d}.jpg" for number in numbers.tolist()]
    count = len(ids)
    offsets = pa.array(np.arange(0, rows.size + 1, DIMENSION, dtype=np.int32))
    columns = {
        "image_id": pa.array(ids),
        "uri": pa.array(ids),
        "status": pa.array(["ok"] * count),
        "features": pa.ListArray.from_arrays(offsets, pa.array(rows.reshape(-1))),
        "width": pa.array([640] * count, pa.int32()),
        "height": pa.array([480] * count, pa.int32()),
        "format": pa.array(["JPEG"] * count),
        "model_id": pa.array([model_id] * count),
        "engine": pa.array(["drawn"] * count),
        "precision": pa.array(["float16"] * count),
        "run_id": pa.array(["benchmark"] * count),
        "extracted_at": pa.array([datetime.now(UTC)] * count, pa.timestamp("us", "UTC")),
    }
    return pa.RecordBatch.from_pydict(columns)


def merged(some: tuple[Array, Array], more: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the nearest `KNOWN` rows of two lots, ascending."""
    numbers, far = (np.concatenate(both, axis=1) for both in zip(some, more, strict=True))
    order = np.argsort(far, axis=1, kind="stable")[:, :KNOWN]
    return np.take_along_axis(numbers, order, 1), np.take_along_axis(far, order, 1)


def truth_of(folder: Path) -> tuple[Array, Array]:
    """Return the rows nearest to each query by what is in the table: numbers and 1 - cosine."""
    with np.load(folder / "truth.npz") as truth:
        return truth["numbers"], truth["far"]


def queries() -> Array:
    """Return the queries, unit vectors, float32 (500, 2048)."""
    return units(queries_of(GENERATOR, QUERIES))


def write_table(folder: Path, start: int, rows: int) -> dict[str, Any]:
    """Add drawn rows to folder/table, made when it is not there, and keep the truth.

    Returns what it cost.
    """
    from pool3.features.schema import FEATURE_SCHEMA
    from pool3.features.table import model_uri, own_table
    from pool3.models import load_model
    from pool3.storage.tables import TableFile, commit

    started = time.monotonic()
    table = str(folder / "table")
    model = load_model("seeded")
    found = own_table(table)
    if found is None:
        model.write(model_uri(table, model.model_id))
    height = BLOCKS_A_PART * BLOCK_ROWS
    parts = [
        _Part(
            table=table,
            number=number,
            start=at,
            rows=min(height, start + rows - at),
            model_id=model.model_id,
        )
        for number, at in enumerate(range(start, start + rows, height))
    ]
    written = in_processes(write_part, parts, cores())
    commit(
        table,
        schema=FEATURE_SCHEMA,
        added=[TableFile.from_dict(file) for file, _, _ in written],
        removed=[],
        read_version=None if found is None else found.version,
        run_id=f"benchmark-{start}",
        custom_metadata={},
    )
    lots = [] if found is None else [truth_of(folder)]
    lots += [(numbers, far) for _, numbers, far in written]
    numbers, far = reduce(merged, lots)
    np.savez(folder / "truth.npz", numbers=numbers, far=far)
    size = sum(file["size"] for file, _, _ in written)
    return {"rows": rows, "seconds": time.monotonic() - started, "bytes": size}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
