"""Feature tables of our own for tests of the index's life cycle, changed row by row."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pool3.features.schema import feature_schema
from pool3.features.table import own_table
from pool3.storage.tables import TableFile, commit
from tests.jobs.colour_model import colour_graph, colour_model_id, write_model

META = pa.struct([pa.field("label", pa.string())])
SCHEMA = feature_schema(META)
MODEL_ID = colour_model_id("colours")


class LakeTable:
    """A Delta feature table in which each change is a commit, as extract-features makes them."""

    def __init__(self, folder: Path, rows_a_file: int = 40) -> None:
        self.uri = str(folder)
        self._rows_a_file = rows_a_file
        self.rows: dict[str, dict[str, Any]] = {}
        self._files: dict[str, TableFile] = {}  # path -> file
        self._where: dict[str, str] = {}  # image_id -> path
        write_model(folder / "_pool3" / "models" / MODEL_ID, colour_graph(), "colours")

    def put(self, vectors: Mapping[str, np.ndarray], label: str | None = None) -> None:
        """Add rows, or put them in the place of those with their ids."""
        for image_id, vector in vectors.items():
            self.rows[image_id] = self._row(image_id, "ok", vector, label or f"of {image_id}")
        self._rewrite(vectors)

    def relabel(self, ids: Sequence[str], label: str) -> None:
        for image_id in ids:
            self.rows[image_id] = {**self.rows[image_id], "meta": {"label": label}}
        self._rewrite(ids)

    def gone(self, ids: Sequence[str]) -> None:
        """Mark rows as gone: they stay in the table, without a vector."""
        for image_id in ids:
            self.rows[image_id] = {
                **self.rows[image_id], "status": "gone", "features": None,
            }  # fmt: skip
        self._rewrite(ids)

    def delete(self, ids: Sequence[str]) -> None:
        """Take rows out altogether, as an erasure does."""
        for image_id in ids:
            del self.rows[image_id]
        self._rewrite(ids)

    def merge_files(self) -> None:
        """Write all rows into new files, as compact-features does."""
        self._rewrite(list(self.rows))

    def live(self) -> dict[str, np.ndarray]:
        """Return the vectors that an index is to hold."""
        return {
            image_id: np.array(row["features"], dtype=np.float32)
            for image_id, row in self.rows.items()
            if row["status"] == "ok"
        }

    def labels(self) -> dict[str, str]:
        return {image_id: row["meta"]["label"] for image_id, row in self.rows.items()}

    def _row(self, image_id: str, status: str, vector: np.ndarray, label: str) -> dict[str, Any]:
        return {
            "image_id": image_id, "uri": f"/lake/{image_id}.jpg", "status": status,
            "features": vector.tolist(), "width": 4, "height": 3, "format": "JPEG",
            "model_id": MODEL_ID, "engine": "test", "precision": "float32", "run_id": "r",
            "extracted_at": datetime(2026, 1, 1, tzinfo=UTC), "meta": {"label": label},
        }  # fmt: skip

    def _rewrite(self, touched: Any) -> None:
        """Commit new files for the touched rows and their neighbours in the old files."""
        old = {self._where[image_id] for image_id in touched if image_id in self._where}
        ids = sorted(
            {image_id for image_id in self.rows if self._where.get(image_id) in old}
            | {image_id for image_id in touched if image_id in self.rows}
        )
        removed = [self._files.pop(path) for path in old]
        self._where = {key: path for key, path in self._where.items() if path not in old}
        added = [
            self._write(ids[start : start + self._rows_a_file])
            for start in range(0, len(ids), self._rows_a_file)
        ]
        table = own_table(self.uri)
        commit(
            self.uri,
            schema=SCHEMA,
            added=added,
            removed=removed,
            read_version=None if table is None else table.version,
            run_id=uuid.uuid4().hex,
            custom_metadata={"job": "test"},
        )

    def _write(self, ids: Sequence[str]) -> TableFile:
        path = f"part-{uuid.uuid4().hex}.parquet"
        rows = pa.Table.from_pylist([self.rows[image_id] for image_id in ids], schema=SCHEMA)
        pq.write_table(rows, Path(self.uri) / path)
        file = TableFile(
            path=path,
            size=(Path(self.uri) / path).stat().st_size,
            rows=len(ids),
            smallest=ids[0],
            largest=ids[-1],
        )
        self._files[path] = file
        self._where.update(dict.fromkeys(ids, path))
        return file


def some_vectors(ids: Sequence[str], dimension: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    """Return a vector for each id, another one for each seed."""
    made = {}
    for image_id in ids:
        random = np.random.default_rng([seed, *image_id.encode()])
        made[image_id] = random.normal(size=dimension).astype(np.float32)
    return made
