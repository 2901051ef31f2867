"""Reading single image_ids out of a shard's file."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pool3.errors import InvalidIndex
from pool3.index.shards.arrow_rows import IdRows

#: Ascending by their bytes, so that those of each place in the list stay together and in order.
TEXTS = ["", "a", "line\nfeed", "z" * 3000, "ü", "\N{SLIGHTLY SMILING FACE}"]
IDS = sorted((f"{text}{number}" for text in TEXTS for number in range(3)), key=str.encode)


def written(path, batches, schema):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return path


def test_each_row_of_each_batch_is_read(tmp_path):
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
    whole = pa.record_batch([pa.array(IDS)], schema=schema)
    # A slice keeps the bytes of what it leaves out, and an empty batch has none.
    batches = [whole.slice(2, 7), whole.slice(0, 0), whole.slice(9)]
    rows = IdRows(written(tmp_path / "ids.arrow", batches, schema), "ids")
    assert [rows.image_id(row) for row in range(len(rows))] == IDS[2:]


@pytest.mark.parametrize(
    "column", [pa.array([1, 2]), pa.array(["a", None]), pa.array(["a", "b"], pa.large_string())]
)
def test_other_columns_are_refused(tmp_path, column):
    batch = pa.record_batch([column], names=["image_id"])
    with pytest.raises(InvalidIndex, match="ids must begin with a column of strings, none of them"):
        IdRows(written(tmp_path / "ids.arrow", [batch], batch.schema), "ids")


@pytest.mark.parametrize(
    ("ids", "fault"),
    [
        (["a", "b", "b", "c"], "found 'b' twice in row 2"),
        (["a", "c", "b", "d"], "found 'b' after 'c' in row 2"),
        (["a", "b", "c", "c"], "found 'c' twice in row 3"),
        (["\N{SLIGHTLY SMILING FACE}", "\uffff"], "in row 1"),
    ],
)
@pytest.mark.parametrize("cut", [0, 2, 3])
def test_ids_that_are_repeated_or_out_of_order_are_refused(tmp_path, ids, fault, cut):
    batch = pa.record_batch([pa.array(ids)], names=["image_id"])
    batches = [batch.slice(0, cut), batch.slice(cut)]
    with pytest.raises(InvalidIndex, match=f"the image_ids in ids must be unique .* {fault}"):
        IdRows(written(tmp_path / "ids.arrow", batches, batch.schema), "ids")


@pytest.mark.parametrize("ids", [[], [""], ["", "a"], ["ü"]])
def test_few_ids_are_in_order(tmp_path, ids):
    batch = pa.record_batch([pa.array(ids, pa.string())], names=["image_id"])
    assert len(IdRows(written(tmp_path / "ids.arrow", [batch], batch.schema), "ids")) == len(ids)
