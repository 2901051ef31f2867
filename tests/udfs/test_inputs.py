"""Input rows of listings, of shares of tables and of queries are the same rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pool3.inputs import InputOptions
from pool3.inputs.columns import TableColumns, table_columns
from pool3.inputs.listed import stage_listing
from pool3.inputs.readers import share_schema
from pool3.inputs.rows import POSITIONS_PER_FILE, RowMaker, row_schema
from pool3.inputs.table_files import TableInput, table_input
from tests.udfs.arrow import in_batches, rows, run
from udfs.inputs import (
    POSITION,
    convert_query_rows,
    convert_source_rows,
    input_rows_of_query,
    read_listings,
    read_shares,
    read_source_rows,
)  # fmt: skip

FILES, ROWS = 2, 11


class Table:
    """A table of two files, and all that a task needs to read it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        for file in range(FILES):
            numbers = range(file * ROWS, (file + 1) * ROWS)
            uris = [f"/d/{number:03d}.jpg" for number in numbers]
            labels = [f"label {number}" for number in numbers]
            table = pa.table({"uri": uris, "label": labels, "n": pa.array(numbers, pa.int16())})
            pq.write_table(table, folder / f"{file}.parquet", row_group_size=3)
        options = InputOptions(inputs=(str(folder),), uri_column="uri", allow_uri=("/d",))
        self.input: TableInput = table_input(str(folder), glob=None, first_number=0)
        self.schema = share_schema(self.input.shares[0])
        self.columns: TableColumns = table_columns(self.schema, options, str(folder))
        self.maker = RowMaker(self.columns, options, [(0, str(folder))])

    def batches(self) -> list[pa.RecordBatch]:
        return list(in_batches([{"share": share.to_json()} for share in self.input.shares], 1))

    def expected(self) -> list[tuple[str, int, dict[str, object]]]:
        """Return uri, position and carried columns of each row."""
        return [
            (
                f"/d/{number:03d}.jpg",
                number // ROWS * POSITIONS_PER_FILE + number % ROWS,
                {"label": f"label {number}", "n": number},
            )
            for number in range(FILES * ROWS)
        ]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "table")


def test_shares_become_input_rows(table: Table) -> None:
    function = read_shares(table.schema, table.columns, table.maker)
    result = rows(function, table.batches(), table.maker.schema)
    assert [(row["uri"], row["position"], row["meta"]) for row in result] == table.expected()
    assert [row["image_id"] for row in result] == [row["uri"] for row in result]
    assert {row["refused"] for row in result} == {None}


def test_rows_that_a_condition_selects_become_the_same_input_rows(table: Table) -> None:
    source = run(read_source_rows(table.schema, table.columns), table.batches())
    assert {tuple(batch.schema.names) for batch in source} == {("uri", "label", "n", POSITION)}
    selected = [batch.filter(pa.array([n % 3 == 0 for n in batch["n"].to_pylist()]))
                for batch in source]  # fmt: skip
    function = convert_source_rows(table.columns, table.maker)
    result = rows(function, selected, table.maker.schema)
    expected = [entry for number, entry in enumerate(table.expected()) if number % 3 == 0]
    assert [(row["uri"], row["position"], row["meta"]) for row in result] == expected


def test_rows_of_a_query_are_numbered_by_partition_and_row(table: Table) -> None:
    values = [{"uri": uri, **meta} for uri, _, meta in table.expected()[:7]]
    # The JVM returns another integer type.
    schema = pa.schema([("uri", pa.string()), ("label", pa.string()), ("n", pa.int32())])
    for partition in (0, 3):
        batches = in_batches(values, 3, schema)
        result = [
            row
            for batch in input_rows_of_query(batches, table.columns, table.maker, partition)
            for row in batch.to_pylist()
        ]
        first = partition * POSITIONS_PER_FILE
        assert [row["position"] for row in result] == list(range(first, first + 7))
        assert [row["meta"] for row in result] == [meta for _, _, meta in table.expected()[:7]]
    function = convert_query_rows(table.columns, table.maker)
    outside = rows(function, in_batches(values, 3, schema), table.maker.schema)
    assert [row["position"] for row in outside] == list(range(7))


def test_staged_listings_are_read_whole(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.jpg").write_bytes(b"x" * number)
    options = InputOptions(inputs=(str(folder),))
    listing = stage_listing(options, str(tmp_path / "staging"), rows_per_file=4)
    assert len(listing.files) == 3
    batches = in_batches([{"share": file} for file in listing.files], 2)
    result = rows(read_listings, batches, row_schema())
    assert {row["uri"]: row["size"] for row in result} == {
        str(folder / f"{number}.jpg"): number for number in range(10)
    }
    assert [row["position"] for row in result] == list(range(10))
