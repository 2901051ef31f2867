"""The rows of a foreign table that can be indexed, and those that are named and left out."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pool3.features.table import open_features
from pool3.features.vectors import SkippedRows, usable_rows, vector_dimension


def usable_ids(folder: Path) -> tuple[list[str], SkippedRows]:
    table, skipped = open_features(str(folder)), SkippedRows()
    dimension, ids = vector_dimension(table), []
    for file in table.files:
        for rows in usable_rows(
            table, file, dimension=dimension, metric="dot", skipped_rows=skipped
        ):
            ids += rows.ids.to_pylist()
    return ids, skipped


def test_rows_without_an_id_are_named(tmp_path: Path) -> None:
    table = pa.table({"image_id": ["a", "", None, ""], "features": [[1.0], [2.0], [3.0], None]})
    pq.write_table(table, tmp_path / "a.parquet")
    ids, skipped = usable_ids(tmp_path)
    assert ids == ["a"]
    assert dict(skipped.errors) == {"null_id": 1, "empty_id": 1, "null_vector": 1}
    assert skipped.named["empty_id"] == [""]


def test_rows_of_a_file_that_lacks_a_column_are_named(tmp_path: Path) -> None:
    whole = pa.table({"image_id": ["a", "b"], "features": [[1.0], [2.0]]})
    pq.write_table(whole, tmp_path / "a.parquet")
    pq.write_table(whole.select(["features"]), tmp_path / "b.parquet")
    pq.write_table(pa.table({"image_id": ["c"]}), tmp_path / "c.parquet")
    ids, skipped = usable_ids(tmp_path)
    assert ids == ["a", "b"]
    assert dict(skipped.errors) == {"null_id": 2, "null_vector": 1}


def test_ids_of_every_type_are_text(tmp_path: Path) -> None:
    keys = pa.array([bytes(range(16))], pa.uuid())
    for number, column in enumerate([pa.array([7]), keys, pa.array(["x"]).dictionary_encode()]):
        table = pa.table({"image_id": column, "features": [[1.0]]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    ids, _ = usable_ids(tmp_path)
    assert ids == ["7", "00010203-0405-0607-0809-0a0b0c0d0e0f", "x"]
