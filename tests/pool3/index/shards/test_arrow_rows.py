"""Reading single image_ids out of a shard's file."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pool3.errors import InvalidIndex
from pool3.index.shards.arrow_rows import IdRows

TEXTS = ["", "a", "ü", "\N{SLIGHTLY SMILING FACE}", "line\nfeed", "z" * 3000]


def written(path, batches, schema):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return path


def test_each_row_of_each_batch_is_read(tmp_path):
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
    whole = pa.record_batch([pa.array(TEXTS * 3)], schema=schema)
    # A slice keeps the bytes of what it leaves out, and an empty batch has none.
    batches = [whole.slice(2, 7), whole.slice(0, 0), whole.slice(9)]
    rows = IdRows(written(tmp_path / "ids.arrow", batches, schema), "ids")
    expected = [*(TEXTS * 3)[2:9], *(TEXTS * 3)[9:]]
    assert [rows.image_id(row) for row in range(len(rows))] == expected


@pytest.mark.parametrize(
    "column", [pa.array([1, 2]), pa.array(["a", None]), pa.array(["a", "b"], pa.large_string())]
)
def test_other_columns_are_refused(tmp_path, column):
    batch = pa.record_batch([column], names=["image_id"])
    with pytest.raises(InvalidIndex, match="ids must begin with a column of strings, none of them"):
        IdRows(written(tmp_path / "ids.arrow", [batch], batch.schema), "ids")
