"""New metadata for some rows: the others keep theirs, whatever the batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pool3.index.shards import metadata
from pool3.index.shards.metadata import replace_rows, unified_schema

OLD = pa.table({"label": ["a", "b", "c", "d", "e"], "width": pa.array([1, 2, 3, 4, 5], pa.int32())})


def written(old: pa.Table | None, rows: list[int], new: pa.Table) -> tuple[pa.Table, bool]:
    batches = list(replace_rows(old, np.array(rows, dtype=np.int32), new, 5))
    return pa.Table.from_batches([batch for batch, _ in batches]), any(
        differs for _, differs in batches
    )


@pytest.mark.parametrize("at_once", [1, 2, 5, 4096])
def test_rows_with_new_values_change_and_others_stay(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(metadata, "_ROWS_AT_ONCE", at_once)
    new = pa.table({"label": ["B", None], "price": [1.5, 2.5]})
    made, differs = written(OLD, [1, 4], new)
    assert differs
    assert made.to_pydict() == {
        "label": ["a", "B", "c", "d", None],
        "width": [1, 2, 3, 4, 5],
        "price": [None, 1.5, None, None, 2.5],
    }
    assert written(OLD, [2, 3], pa.table({"label": ["c", "d"]}))[1] is False
    assert written(OLD, [], pa.table({"label": pa.array([], pa.string())}))[1] is False


def test_a_shard_without_metadata_gets_some() -> None:
    made, differs = written(None, [0, 2], pa.table({"label": ["x", "y"]}))
    assert differs
    assert made.to_pydict() == {"label": ["x", None, "y", None, None]}


def test_a_column_takes_the_type_of_the_newest() -> None:
    made, differs = written(OLD, [0], pa.table({"width": pa.array([10**12], pa.int64())}))
    assert differs
    assert made.column("width").to_pylist() == [10**12, 2, 3, 4, 5]


def test_text_may_replace_numbers_and_numbers_text() -> None:
    numbers = pa.table({"label": pa.array([1, 2, 3, 4, 5])})
    made, _ = written(OLD, [0, 1, 2, 3, 4], numbers)
    assert made.column("label").equals(numbers.column("label"))
    made, _ = written(OLD, [0, 1, 2, 3], numbers.slice(0, 4))  # one text stays
    assert made.column("label").to_pylist() == ["1", "2", "3", "4", "e"]
    made, _ = written(numbers, [4], pa.table({"label": ["x"]}))
    assert made.column("label").to_pylist() == ["1", "2", "3", "4", "x"]


def test_values_are_not_lost_where_the_newest_type_is_narrower() -> None:
    made, _ = written(pa.table({"n": [0.5, 1.5, 2.5, 3.5, 4.5]}), [0], pa.table({"n": [7]}))
    assert made.column("n").to_pylist() == [7.0, 1.5, 2.5, 3.5, 4.5]


def test_shards_with_columns_of_other_types_have_a_common_schema() -> None:
    schemas = [
        pa.schema([("a", pa.int64()), ("b", pa.date32())]),
        pa.schema([("a", pa.string()), ("c", pa.int8())]),
        pa.schema([("c", pa.uint8())]),
    ]
    assert unified_schema(schemas) == pa.schema(
        [("a", pa.string()), ("b", pa.date32()), ("c", pa.int16())]
    )
