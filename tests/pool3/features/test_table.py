"""The feature table: complete files, one commit, unique ids, readable by other readers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pool3.errors import StorageError, UsageError
from pool3.features.parts import PartWriter
from pool3.features.schema import FEATURE_SCHEMA
from pool3.features.table import open_features, own_table
from pool3.storage.names import part_name
from pool3.storage.tables import TableFile, commit


def rows(ids: list[str], status: str = "ok", dimension: int = 4) -> pa.RecordBatch:
    ok = status == "ok"
    return pa.RecordBatch.from_pylist(
        [
            {
                "image_id": image_id, "uri": image_id, "status": status, "model_id": "m",
                "error": None if ok else "empty", "engine": "e", "precision": "p", "run_id": "r",
                "features": [float(n) for n in range(dimension)] if ok else None,
                "extracted_at": datetime(2026, 1, 1, tzinfo=UTC),
            }
            for image_id in ids
        ],
        schema=FEATURE_SCHEMA,
    )  # fmt: skip


def write(uri: str, *batches: pa.RecordBatch) -> TableFile:
    with PartWriter(uri, part_name("run", 0), 4, FEATURE_SCHEMA) as writer:
        for batch in batches:
            writer.append(batch)
        file = writer.finish()
    assert file is not None
    return file


def put(
    uri: str, added: list[TableFile], removed: list[TableFile], read_version: int | None
) -> int:
    return commit(
        uri,
        schema=FEATURE_SCHEMA,
        added=added,
        removed=removed,
        read_version=read_version,
        run_id="run",
        custom_metadata={"job": "test"},
    )


def test_a_file_is_invisible_until_it_is_committed(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    first = write(uri, rows(["b", "a"]), rows(["c"], "failed"))
    assert (first.rows, first.smallest, first.largest) == (3, "a", "c")
    assert own_table(uri) is None
    assert put(uri, [first], [], None) == 0
    write(uri, rows(["z"]))  # of a retried task, for example
    table = own_table(uri)
    assert table is not None
    assert table.files == (first,)
    assert sorted(DeltaTable(uri).to_pyarrow_table()["image_id"].to_pylist()) == ["a", "b", "c"]


def test_replacing_is_one_commit_and_ids_stay_unique(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    old = write(uri, rows(["a", "b"]))
    put(uri, [old], [], None)
    version = put(uri, [write(uri, rows(["b", "c"])), write(uri, rows(["a"]))], [old], 0)
    assert version == 1
    result = DeltaTable(uri).to_pyarrow_table()["image_id"].to_pylist()
    assert sorted(result) == ["a", "b", "c"]
    assert sorted(DeltaTable(uri, version=0).to_pyarrow_table()["image_id"].to_pylist()) == [
        "a",
        "b",
    ]


def test_a_commit_over_another_writers_version_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    put(uri, [write(uri, rows(["a"]))], [], None)
    late = write(uri, rows(["b"]))
    for read_version in (None, 7):
        with pytest.raises(StorageError, match="another writer"):
            put(uri, [late], [], read_version)
    assert DeltaTable(uri).to_pyarrow_table()["image_id"].to_pylist() == ["a"]


def test_features_are_split_by_byte_and_row_groups_are_bounded(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    with PartWriter(uri, "part.parquet", 2_000_000, FEATURE_SCHEMA) as writer:
        for name in "abcdefgh":
            writer.append(rows([name], dimension=2))
        writer.finish()
    metadata = pq.read_metadata(tmp_path / "table" / "part.parquet")
    assert metadata.num_row_groups == 2  # four rows of two million numbers fit into 32 MB
    column = metadata.row_group(0).column(FEATURE_SCHEMA.names.index("features"))
    assert "BYTE_STREAM_SPLIT" in column.encodings
    assert column.compression == "ZSTD"


def test_a_block_that_raises_stores_nothing(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")

    def fail() -> None:
        with PartWriter(uri, "part.parquet", 4, FEATURE_SCHEMA) as writer:
            writer.append(rows(["a"]))
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert not (tmp_path / "table").exists()


def test_foreign_tables_and_folders_that_are_not_tables(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found none"):
        open_features(str(tmp_path / "nowhere"))
    (tmp_path / "t").mkdir()
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "t" / "x.parquet")
    with pytest.raises(UsageError, match="found id"):
        open_features(str(tmp_path / "t"))
    pq.write_table(pa.table({"image_id": ["a"], "features": [[1.0]]}), tmp_path / "t" / "x.parquet")
    table = open_features(str(tmp_path / "t"))
    assert table.foreign
    assert table.model_id() is None


def test_a_table_in_a_bucket(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/features"
    first = write(uri, rows(["a", "b"]))
    put(uri, [first], [], None)
    table = open_features(uri)
    assert (table.version, table.files, table.model_id()) == (0, (first,), "m")
    assert put(uri, [write(uri, rows(["b"])), write(uri, rows(["a"]))], [first], 0) == 1
