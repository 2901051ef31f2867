"""Digests of a table's rows, and the change of each row from two digests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests.pool3.features.small_tables import put, row, write_part
from tests.udfs.arrow import file_batches, rows
from tests.udfs.small_data import digest
from udfs.changes import COMPARED, DIGEST_SCHEMA, digest_rows, mark


def test_each_usable_row_has_its_digest_and_each_file_counts_the_rest(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    vectors = {"a": [1.0, 2.5], "b": [-0.0, 3.0], "c": [70_000.0, 1.0], "d": [65_504.0, -65_504.0]}
    files = [
        write_part(uri, [row(key, features=vectors[key]) for key in "ab"]),
        write_part(
            uri,
            [row(key, features=vectors[key]) for key in "cd"]
            + [row("e", status="failed", error="empty", features=None), row("f", features=[1.0])],
        ),
    ]
    table = put(uri, files)
    function = digest_rows(table, dimension=2, metric="euclidean")
    result = rows(function, file_batches(table.files), DIGEST_SCHEMA)
    usable = {entry["image_id"]: entry for entry in result if entry["image_id"] is not None}
    assert {key: entry["table_digest"] for key, entry in usable.items()} == {
        key: digest(np.array(vector)) for key, vector in vectors.items()
    }
    assert {key for key, entry in usable.items() if entry["wide"]} == {"c"}
    others = [json.loads(e["skipped_rows"]) for e in result if e["image_id"] is None]
    assert len(others) == len(files)
    assert sorted(entry["skipped"] for entry in others) == [0, 1]
    assert [entry["errors"] for entry in others if entry["errors"]] == [{"wrong_length": 1}]


def test_under_angular_only_the_direction_must_fit_into_float16(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    table = put(uri, [write_part(uri, [row("a", features=[1e30, 1e30])])])
    for metric, wide in (("angular", False), ("euclidean", True)):
        function = digest_rows(table, dimension=2, metric=metric)
        first, _ = rows(function, file_batches(table.files), DIGEST_SCHEMA)
        assert first["wide"] is wide


DIGESTS = st.none() | st.integers(-2, 2)


def expected_change(in_index: int | None, in_table: int | None) -> str | None:
    if in_index is None:
        return None if in_table is None else "added"
    if in_table is None:
        return "deleted"
    return "same" if in_index == in_table else "moved"


@given(st.lists(st.tuples(DIGESTS, DIGESTS)), st.integers(1, 5))
def test_the_change_follows_from_both_digests(
    pairs: list[tuple[int | None, int | None]], size: int
) -> None:
    columns = {
        "image_id": pa.array([str(number) for number in range(len(pairs))], pa.string()),
        "shard": pa.array([None if old is None else 3 for old, _ in pairs], pa.int32()),
        "row": pa.array([None if old is None else 9 for old, _ in pairs], pa.int32()),
        "digest": pa.array([old for old, _ in pairs], pa.int64()),
        "table_digest": pa.array([new for _, new in pairs], pa.int64()),
        "wide": pa.array([None] * len(pairs), pa.bool_()),
    }
    joined = pa.RecordBatch.from_pydict(columns)
    batches = (joined.slice(start, size) for start in range(0, len(pairs), size))
    result = rows(mark, batches, COMPARED)
    assert [entry["change"] for entry in result] == [expected_change(*pair) for pair in pairs]
    assert [entry["image_id"] for entry in result] == columns["image_id"].to_pylist()
