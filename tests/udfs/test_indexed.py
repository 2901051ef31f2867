"""The live rows of shards, listed with their places and digests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.udfs.arrow import grouped, rows, shard_batches
from tests.udfs.small_data import SmallIndex, digest
from udfs import indexed
from udfs.indexed import INDEXED_SCHEMA, list_indexed


def expected_rows(index: SmallIndex) -> dict[str, tuple[int, int, int]]:
    return {
        image_id: (*index.place(image_id), digest(index.vectors[index.ids.index(image_id)]))
        for image_id in index.live_ids()
    }


def listed(index: SmallIndex, among: pa.ChunkedArray | None) -> dict[str, tuple[int, int, int]]:
    function = list_indexed(str(index.directory), among)
    batches = shard_batches(grouped(index.directory).value)
    result = rows(function, batches, INDEXED_SCHEMA)
    by_id = {row["image_id"]: (row["shard"], row["row"], row["digest"]) for row in result}
    assert len(by_id) == len(result)
    return by_id


def test_each_live_row_is_listed_once_with_its_place(euclidean_index: SmallIndex) -> None:
    assert listed(euclidean_index, None) == expected_rows(euclidean_index)


def test_rows_are_counted_over_the_batches_of_a_shard(
    euclidean_index: SmallIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_rows = indexed.open_rows

    def open_in_batches(*arguments: Any) -> SimpleNamespace:
        batches = open_rows(*arguments).table().to_batches(max_chunksize=7)
        return SimpleNamespace(table=lambda: pa.Table.from_batches(batches))

    monkeypatch.setattr(indexed, "open_rows", open_in_batches)
    assert listed(euclidean_index, None) == expected_rows(euclidean_index)


@given(st.sets(st.integers(0, 300), max_size=40))
def test_only_the_named_ids_are_listed(euclidean_index: SmallIndex, numbers: set[int]) -> None:
    names = [f"{number:04d}" for number in numbers]  # some have tombstones, some do not exist
    among = pa.chunked_array([names[:5], names[5:]], pa.string())
    expected = expected_rows(euclidean_index)
    assert listed(euclidean_index, among) == {
        name: expected[name] for name in names if name in expected
    }
