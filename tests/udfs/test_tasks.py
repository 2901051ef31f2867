"""Inputs and outputs of tasks, and that Spark can ship the functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyspark import cloudpickle
from pyspark.sql.pandas.types import to_arrow_schema

from pool3.index.format.entries import FileEntry, ShardEntry
from pool3.index.recall.effort import Effort
from pool3.storage.tables import TableFile
from tests.udfs.arrow import Broadcast, in_batches
from udfs.evaluate import read_labels
from udfs.search import GroupedSnapshot, search_group
from udfs.tasks import (
    FILE_SCHEMA,
    SHARD_SCHEMA,
    SUMMARY_SCHEMA,
    files_of,
    partition_number,
    shards_of,
    summary,
)  # fmt: skip

files = st.builds(
    TableFile,
    path=st.text(min_size=1),
    size=st.integers(0, 1 << 50),
    rows=st.integers(0, 1 << 31),
    smallest=st.none() | st.text(),
    largest=st.none() | st.text(),
)


@given(st.lists(files, max_size=9), st.integers(1, 4))
def test_files_arrive_whole_and_in_order(sent: Sequence[TableFile], size: int) -> None:
    values = [{"file": json.dumps(file.as_dict())} for file in sent]
    batches = in_batches(values, size, to_arrow_schema(FILE_SCHEMA))
    assert list(files_of(batches)) == sent


def test_shards_arrive_whole_and_in_order() -> None:
    entry_files = {
        kind: FileEntry(path=f"shards/x/{kind}", bytes=3, sha256="0" * 64)
        for kind in ("tree", "vectors", "ids")
    }
    entries = [
        ShardEntry(number=number, rows=5, seed=7, max_norm=0.1, files=entry_files, search_k=(1, 2))
        for number in range(5)
    ]
    values = [{"entry": json.dumps(asdict(entry))} for entry in entries]
    assert list(shards_of(in_batches(values, 2, to_arrow_schema(SHARD_SCHEMA)))) == entries


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text()), st.none() | st.binary())
def test_a_summary_is_one_row_of_its_schema(values: dict[str, object], data: bytes | None) -> None:
    batch = summary(values, data)
    expected = to_arrow_schema(SUMMARY_SCHEMA)
    assert (batch.schema.names, batch.schema.types) == (expected.names, expected.types)
    (row,) = batch.to_pylist()
    assert (json.loads(row["summary"]), row["payload"]) == (values, data)


def test_outside_of_spark_there_is_one_partition() -> None:
    assert partition_number() == 0


def test_closures_bind_arguments_and_refer_to_the_modules() -> None:
    """What a module has is not shipped with each task; it is in the application's zip."""
    index: Broadcast[GroupedSnapshot] = Broadcast(None)  # type: ignore[arg-type]
    for function, body, inner in (
        (search_group(index, Effort(1, 1, 1)), b"answers_of_group", b"_answer_row"),
        (read_labels(index, Broadcast({"a"}), "label"), b"shard_labels", b"Counter"),
    ):
        data = cloudpickle.dumps(function)
        assert body in data
        assert inner not in data
        assert len(data) < 4000


def test_no_files_are_no_work() -> None:
    empty = pa.RecordBatch.from_pydict({"file": pa.array([], pa.string())})
    assert list(files_of(iter([empty]))) == []
