"""Ids are found wherever a file has them, and a file that cannot be read is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from pool3.features.table import FeatureTable, open_features
from tests.pool3.features.small_tables import put, row, write_part
from tests.udfs.arrow import Broadcast, file_batches, grouped, in_batches, summaries
from tests.udfs.small_data import SHARDS, SmallIndex
from udfs.find_ids import find_files_with_ids, find_ids


def paths(index: SmallIndex) -> list[str]:
    shards = grouped(index.directory).value.snapshot.manifest.shards
    return [shard.files["ids"].path for shard in shards]


@given(st.sets(st.integers(0, 400), max_size=9))
def test_files_of_an_index_with_ids(euclidean_index: SmallIndex, numbers: set[int]) -> None:
    """Rows with tombstones count too: their ids are still in the file."""
    ids = {f"{number:04d}" for number in numbers}
    function = find_ids(str(euclidean_index.directory), Broadcast(ids))
    files = paths(euclidean_index)
    result = summaries(function, in_batches([{"path": path} for path in files], 2))
    expected = {
        files[shard]: {name for name in ids if name in euclidean_index.ids[shard::SHARDS]}
        for shard in range(SHARDS)
    }
    assert {task["path"]: set(task["ids"]) for task in result} == {
        path: names for path, names in expected.items() if names
    }


def test_a_file_of_an_index_that_cannot_be_read_may_have_any_id(tmp_path: Path) -> None:
    (tmp_path / "damaged.arrow").write_bytes(b"no Arrow file")
    with pa.ipc.new_file(tmp_path / "other.arrow", pa.schema([("x", pa.int64())])) as writer:
        writer.write_batch(pa.RecordBatch.from_pydict({"x": [1]}))
    names = ["damaged.arrow", "other.arrow"]
    function = find_ids(str(tmp_path), Broadcast({"a"}))
    result = summaries(function, in_batches([{"path": name} for name in names], 1))
    assert result == [{"path": name, "ids": None} for name in names]


def test_files_of_a_table_with_ids(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    first = write_part(uri, [row("a"), row("b")])
    second = write_part(uri, [row("c")])
    table = put(uri, [first, second])
    (tmp_path / "t" / "damaged.parquet").write_bytes(b"no Parquet file")
    damaged = replace(first, path="damaged.parquet")
    function = find_files_with_ids(table, Broadcast({"b", "z", "a"}))
    result = summaries(function, file_batches([first, second, damaged], size=1))
    by_path = {task["path"]: task["ids"] for task in result}
    assert sorted(by_path.pop(first.path)) == ["a", "b"]
    assert by_path == {"damaged.parquet": None}


def test_ids_that_are_numbers_and_files_without_ids(tmp_path: Path) -> None:
    vectors = pa.array([[1.0], [2.0]])
    pq.write_table(pa.table({"image_id": [17, 18], "features": vectors}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"features": vectors}), tmp_path / "b.parquet")
    table: FeatureTable = open_features(str(tmp_path))
    function = find_files_with_ids(table, Broadcast({"18"}))
    result = summaries(function, file_batches(table.files))
    assert result == [{"path": "a.parquet", "ids": ["18"]}, {"path": "b.parquet", "ids": None}]
