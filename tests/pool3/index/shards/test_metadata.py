"""New metadata for some rows: the others keep theirs, whatever the batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pool3.index.shards import metadata
from pool3.index.shards.metadata import replace_rows

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
