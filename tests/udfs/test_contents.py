"""Rows of a plan get the bytes of their own rows of the input."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.inputs.contents import Contents
from pool3.inputs.rows import POSITIONS_PER_FILE
from pool3.inputs.table_files import table_input
from tests.udfs.arrow import in_batches, run
from udfs.contents import CONTENT, add_content

FILES, ROWS = 3, 25


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """Three files whose values contain the numbers of file and row."""
    folder = tmp_path_factory.mktemp("contents")
    for file in range(FILES):
        values = [None if row == 4 else f"{file}:{row}".encode() for row in range(ROWS)]
        table = pa.table({"bytes": pa.array(values, pa.binary())})
        pq.write_table(table, folder / f"{file}.parquet", row_group_size=4 + file)
    return Contents(table_input(str(folder), glob=None, first_number=0).shares, "bytes")


@given(
    st.sets(st.tuples(st.integers(0, FILES - 1), st.integers(0, ROWS - 1))),
    st.integers(1, 9),
    st.integers(),
)
def test_each_row_has_the_bytes_at_its_position(
    contents: Contents, chosen: set[tuple[int, int]], size: int, seed: int
) -> None:
    plan: list[dict[str, Any]] = [
        {"image_id": f"{file}:{row}", "position": file * POSITIONS_PER_FILE + row}
        for file, row in chosen
    ]
    random.Random(seed).shuffle(plan)
    result = []
    for batch in run(add_content(contents), in_batches(plan, size)):
        assert batch.schema.names == ["image_id", "position", CONTENT]
        result += batch.to_pylist()
    assert sorted(row["image_id"] for row in result) == sorted(row["image_id"] for row in plan)
    for row in result:
        expected = b"" if row["image_id"].endswith(":4") else row["image_id"].encode()
        assert row[CONTENT] == expected
