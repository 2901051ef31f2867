"""Copies, close pairs and clusters of an index against brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema

from pool3.index.recall.effort import Effort
from pool3.search.duplicates import cluster_id
from tests.udfs.arrow import Broadcast, grouped, in_batches, rows, shard_batches, summaries
from tests.udfs.conftest import URIS
from tests.udfs.small_data import SHARDS, SmallIndex
from udfs.duplicates import (
    CONTENT_SCHEMA,
    DUPLICATE_SCHEMA,
    MEMBER_SCHEMA,
    PAIR_SCHEMA,
    QUERY_ROW_SCHEMA,
    PairSettings,
    find_pairs,
    find_uris,
    largest,
    list_content,
    query_rows,
    write_duplicates,
)  # fmt: skip

THRESHOLD = 10.5
HIDDEN = {0: np.array([3, 4, 40]), 2: np.array([0])}


def hidden_ids(index: SmallIndex) -> set[str]:
    return {index.ids[SHARDS * row + shard] for shard, rows in HIDDEN.items() for row in rows}


def test_live_rows_with_a_digest_of_their_bytes(euclidean_index: SmallIndex) -> None:
    index = grouped(euclidean_index.directory)
    result = rows(list_content(index), shard_batches(index.value), CONTENT_SCHEMA)
    numbers = [
        number for number, live in enumerate(euclidean_index.live) if live and number % 7 != 6
    ]
    expected = {
        euclidean_index.ids[n]: (n % SHARDS, n // SHARDS, f"sha-{n // 2:03d}") for n in numbers
    }
    assert {r["image_id"]: (r["shard"], r["row"], r["sha256"]) for r in result} == expected
    assert len(result) == len(expected)


def test_without_digests_there_are_no_rows(any_index: SmallIndex) -> None:
    index = grouped(any_index.directory)
    assert rows(list_content(index), shard_batches(index.value), CONTENT_SCHEMA) == []


def queries_of(index: SmallIndex, hidden: dict[int, np.ndarray]) -> list[dict[str, Any]]:
    opened = grouped(index.directory)
    function = query_rows(opened, Broadcast(hidden))
    return rows(function, shard_batches(opened.value), QUERY_ROW_SCHEMA)


def test_live_rows_are_queries_unless_hidden(euclidean_index: SmallIndex) -> None:
    result = queries_of(euclidean_index, HIDDEN)
    expected = set(euclidean_index.live_ids()) - hidden_ids(euclidean_index)
    assert {row["image_id"] for row in result} == expected
    assert len(result) == len(expected)
    for row in result:
        assert (row["shard"], row["row"]) == euclidean_index.place(row["image_id"])
        vector = np.frombuffer(row["vector"], "<f2").astype(np.float32)
        number = euclidean_index.ids.index(row["image_id"])
        np.testing.assert_array_equal(vector, euclidean_index.vectors[number])


@pytest.mark.parametrize("max_bytes", [1, 1 << 40])
def test_pairs_are_those_of_brute_force(euclidean_index: SmallIndex, max_bytes: int) -> None:
    index = euclidean_index
    opened = grouped(index.directory, max_bytes)
    settings = PairSettings(effort=Effort(10, 100, 1000), threshold=THRESHOLD, most=1000)
    function = find_pairs(opened, Broadcast(HIDDEN), settings)
    queries = queries_of(index, HIDDEN)
    schema = to_arrow_schema(QUERY_ROW_SCHEMA).append(pa.field("group", pa.int32()))
    result = []
    for group in range(len(opened.value.groups)):
        values = [{**query, "group": group} for query in queries]
        result += rows(function, in_batches(values, 50, schema), PAIR_SCHEMA)
    names = [name for name in index.live_ids() if name not in hidden_ids(index)]
    expected = {}
    for at, name in enumerate(names):
        distances = index.distances(index.vectors[index.ids.index(name)])
        for other in names[at + 1 :]:
            if distances[index.ids.index(other)] <= THRESHOLD:
                expected[name, other] = distances[index.ids.index(other)]
    assert len(expected) > 100
    pairs = {(row["first"], row["second"]): row["distance"] for row in result}
    assert pairs == pytest.approx(expected, rel=1e-5)
    assert len(result) == 2 * len(expected)  # each of the two rows finds the other


def test_a_search_that_reaches_its_limit_is_a_row_of_its_own(euclidean_index: SmallIndex) -> None:
    opened = grouped(euclidean_index.directory)
    settings = PairSettings(effort=Effort(10, 100, 1000), threshold=1e6, most=20)
    schema = to_arrow_schema(QUERY_ROW_SCHEMA).append(pa.field("group", pa.int32()))
    values = [{**query, "group": 0} for query in queries_of(euclidean_index, {})[:4]]
    function = find_pairs(opened, Broadcast({}), settings)
    result = rows(function, in_batches(values, 3, schema), PAIR_SCHEMA)
    unfinished = [row["first"] for row in result if row["second"] is None]
    assert unfinished == [query["image_id"] for query in values]


def test_clusters_are_stored_with_their_ids(tmp_path: Path) -> None:
    members = [
        {"image_id": name, "representative_id": owner, "distance_to_representative": distance}
        for name, owner, distance in (
            ("a", "a", 0.0), ("b", "a", 0.1), ("c", "a", 0.2), ("d", "d", 0.0), ("e", "d", 0.3),
            ("f", "f", 0.0), ("g", "f", 0.5),
        )
    ]  # fmt: skip
    function = write_duplicates(str(tmp_path), "run", 2)
    (task,) = summaries(function, in_batches(members, 2, to_arrow_schema(MEMBER_SCHEMA)))
    assert (task["clusters"], task["largest"]) == (3, [["a", 3], ["d", 2]])
    table = pq.read_table(tmp_path / task["file"]["path"])
    assert table.schema.names == DUPLICATE_SCHEMA.names
    assert table.to_pylist() == [
        {"cluster_id": cluster_id(member["representative_id"]), **member} for member in members
    ]


def test_without_clusters_no_file_is_stored(tmp_path: Path) -> None:
    (task,) = summaries(write_duplicates(str(tmp_path), "run", 2), [])
    assert task == {"file": None, "clusters": 0, "largest": []}
    assert not list(tmp_path.iterdir())


@given(st.dictionaries(st.text(max_size=2), st.integers(2, 5)), st.integers(0, 9))
def test_the_largest_come_first_and_ties_by_id(sizes: dict[str, int], n: int) -> None:
    expected = sorted(sizes.items(), key=lambda cluster: (-cluster[1], cluster[0]))[:n]
    assert largest(sizes.items(), n) == expected


def test_uris_of_the_live_rows_among_some_ids(
    euclidean_index: SmallIndex, any_index: SmallIndex
) -> None:
    index = grouped(euclidean_index.directory)
    wanted = Broadcast([euclidean_index.ids[number] for number in (0, 5, 6)] + ["no row"])
    tasks = summaries(find_uris(index, wanted), shard_batches(index.value))
    uris = {name: uri for task in tasks for name, uri in task["uris"].items()}
    assert uris == {euclidean_index.ids[number]: URIS[number] for number in (5, 6)}
    without = grouped(any_index.directory)
    assert summaries(find_uris(without, wanted), shard_batches(without.value)) == []
