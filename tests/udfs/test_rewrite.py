"""Rewritten files: planned rows are edited or dropped, and all others stay as they are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from pool3.extract.actions import CHANGED, CHECKED, LEFT, META, RETRIED
from tests.pool3.features.small_tables import FEATURE_SCHEMA, put, row, write_part
from tests.udfs.arrow import Broadcast, in_batches, summaries
from udfs.rewrite import edited, edits_by_file, rewrite

LABEL = pa.struct([("label", pa.string())])
SCHEMA = FEATURE_SCHEMA.append(pa.field("meta", LABEL))
PLAN = pa.schema(
    [("image_id", pa.string()), ("file", pa.int32()), ("action", pa.string()), ("meta", LABEL)]
)
IDS = "abcdefgh"


def source_rows() -> list[dict[str, Any]]:
    return [row(name, meta={"label": f"old {name}"}, thumbnail=b"x") for name in IDS]


actions = st.sampled_from([None, CHANGED, RETRIED, CHECKED, META, LEFT])


@given(st.lists(actions, min_size=len(IDS), max_size=len(IDS)))
def test_each_row_gets_its_edit(planned: list[str | None]) -> None:
    batch = pa.RecordBatch.from_pylist(source_rows(), schema=SCHEMA)
    edits = {
        name: {"action": action, "meta": {"label": f"new {name}"}}
        for name, action in zip(IDS, planned, strict=True)
        if action is not None
    }
    result = edited(batch, edits, "run 2")
    assert result.schema.equals(SCHEMA)
    before = {entry["image_id"]: entry for entry in batch.to_pylist()}
    after = {entry["image_id"]: entry for entry in result.to_pylist()}
    for name, action in zip(IDS, planned, strict=True):
        if action in (CHANGED, RETRIED, CHECKED):
            assert name not in after  # the new row is in a file of its own
        elif action == META:
            assert after[name] == {**before[name], "meta": {"label": f"new {name}"}}
        elif action == LEFT:
            assert after[name].pop("extracted_at") > datetime(2026, 1, 1, tzinfo=UTC)
            gone = {"status": "gone", "run_id": "run 2", "features": None, "thumbnail": None}
            expected = {**before[name], **gone}
            del expected["extracted_at"]
            assert after[name] == expected
        else:
            assert after[name] == before[name]
    assert list(after) == [name for name in IDS if name in after]


def test_files_are_stored_anew_without_their_retained_rows_changed(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    source = source_rows()
    files = [write_part(uri, source[:3], SCHEMA), write_part(uri, source[3:4], SCHEMA)]
    table = put(uri, [*files, write_part(uri, source[4:], SCHEMA)], schema=SCHEMA)
    names = [
        pq.read_table(f"{uri}/{file.path}", columns=["image_id"])["image_id"].to_pylist()
        for file in table.files
    ]
    number_of = {name: number for number, ids in enumerate(names) for name in ids}
    plan = [
        {"image_id": "a", "file": number_of["a"], "action": CHANGED, "meta": None},
        {"image_id": "d", "file": number_of["d"], "action": RETRIED, "meta": None},
        {"image_id": "b", "file": number_of["b"], "action": CHECKED, "meta": None},
        {"image_id": "c", "file": number_of["c"], "action": META, "meta": {"label": "new"}},
    ]
    function = rewrite(table, Broadcast({"b"}), "run 2", 2, SCHEMA)
    tasks = summaries(function, in_batches(plan, 3, PLAN))
    results = {task["number"]: task["file"] for task in tasks}
    assert set(results) == {number_of["a"], number_of["d"]}  # the third file is not touched
    assert results[number_of["d"]] is None  # its only row was extracted again
    new = results[number_of["a"]]
    stored = pq.read_table(f"{uri}/{new['path']}").to_pylist()
    assert {entry["image_id"]: entry["meta"]["label"] for entry in stored} == {
        "b": "old b",
        "c": "new",
    }
    assert (new["rows"], new["smallest"], new["largest"]) == (2, "b", "c")


def test_plans_are_grouped_by_file() -> None:
    plan = [
        {"image_id": name, "file": number % 2, "action": META, "meta": None}
        for number, name in enumerate(IDS)
    ]
    groups = edits_by_file(in_batches(plan, 3, PLAN), {"c", "h"})
    assert {number: sorted(edits) for number, edits in groups.items()} == {
        0: ["a", "e", "g"],
        1: ["b", "d", "f"],
    }
    assert edits_by_file(in_batches(plan[2:3], 1, PLAN), {"c"}) == {}
