"""Only the bytes of selected rows are read from the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.inputs import contents, readers
from pool3.inputs.contents import Contents
from pool3.inputs.readers import read_share
from pool3.inputs.rows import POSITIONS_PER_FILE
from pool3.inputs.table_files import table_input
from tests.delta_tables import add_action, inline_vector, protocol, write_log

ROWS = 40


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three files with row groups of different sizes; values contain file and row."""
    folder = tmp_path_factory.mktemp("contents")
    for file, group in enumerate((1, 7, 100)):
        values = [b"" if row == 3 else f"{file}:{row}".encode() for row in range(ROWS)]
        data = pa.table({"id": range(ROWS), "bytes": [value or None for value in values]})
        pq.write_table(data, folder / f"{file}.parquet", row_group_size=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_BATCH_BYTES", 60)
        yield folder


@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, ROWS - 1))))
def test_every_chosen_row_comes_once_with_its_own_bytes(
    table: Path, chosen: set[tuple[int, int]]
) -> None:
    shares = table_input(str(table), glob=None, first_number=5).shares
    places = sorted(chosen)
    positions = np.array([(5 + file) * POSITIONS_PER_FILE + row for file, row in places], np.int64)
    result: dict[int, bytes] = {}
    for within, values in Contents(shares, "bytes").read(positions):
        assert len(within) == len(values)
        assert not result.keys() & set(within.tolist())
        result.update(zip(within.tolist(), values.to_pylist(), strict=True))
    assert [result[at] for at in range(len(places))] == [
        b"" if row == 3 else f"{file}:{row}".encode() for file, row in places
    ]


def test_row_groups_without_a_chosen_row_are_not_read(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def watched(file: pq.ParquetFile, group: int, row: int, columns: list[str]) -> object:
        read.append((group, columns))
        return readers.group_batches(file, group, row, columns)

    monkeypatch.setattr(contents, "group_batches", watched)
    shares = table_input(str(table / "1.parquet"), glob=None, first_number=0).shares
    result = [values for _, values in Contents(shares, "bytes").read(np.array([8, 9, 30]))]
    assert pa.chunked_array(result).to_pylist() == [b"1:8", b"1:9", b"1:30"]
    assert read == [(1, ["bytes"]), (4, ["bytes"])]


def test_rows_behind_deleted_ones_keep_their_bytes(tmp_path: Path) -> None:
    data = pa.table({"id": list("abcdef"), "bytes": [name.encode() for name in "abcdef"]})
    action = add_action(tmp_path, data, vector=inline_vector([0, 2, 3]))
    uri = write_log(tmp_path, data.schema, [action], table_protocol=protocol("deletionVectors"))
    shares = table_input(uri, glob=None, first_number=0).shares
    rows = [placed for share in shares for placed in read_share(share, data.schema, data.schema)]
    positions = [first + at for first, batch in rows for at in range(batch.num_rows)]
    ids = [name for _, batch in rows for name in batch.column("id").to_pylist()]
    assert ids == ["b", "e", "f"]
    read = Contents(shares, "bytes").read(np.array(positions))
    assert [value for _, values in read for value in values.to_pylist()] == [b"b", b"e", b"f"]
