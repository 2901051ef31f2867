"""Groups of shards searched by tasks and merged by tasks give the answer of brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool3.index.recall.effort import Effort
from tests.udfs.arrow import grouped, in_batches, rows, summaries
from tests.udfs.small_data import DIMENSION, ROWS, SHARDS, SmallIndex
from udfs.queries import NOT_OK
from udfs.search import (
    ANSWER_SCHEMA,
    GROUP_ANSWER_SCHEMA,
    AnswerSettings,
    search_group,
    write_answers,
)  # fmt: skip

QUERY_ROWS = pa.schema(
    [
        ("query_id", pa.string()),
        ("vector", pa.binary()),
        ("error", pa.string()),
        ("group", pa.int32()),
    ]
)
#: Gathers and measures every row, so that the answer is exact.
EXHAUSTIVE = Effort(k=8, rerank=ROWS, search_k=1 << 30)


def query_rows(queries: dict[str, np.ndarray], group: int) -> list[dict[str, Any]]:
    return [
        {"query_id": name, "vector": vector.astype("<f4").tobytes(), "group": group}
        for name, vector in queries.items()
    ]


def group_answers(
    index: SmallIndex, values: list[list[dict[str, Any]]], max_bytes: int, effort: Effort
) -> list[dict[str, Any]]:
    """Run one task for each group; returns the answers by query and group, as Spark sorts them."""
    function = search_group(grouped(index.directory, max_bytes), effort)
    result = [
        answer
        for of_group in values
        for answer in rows(function, in_batches(of_group, 3, QUERY_ROWS), GROUP_ANSWER_SCHEMA)
    ]
    return sorted(result, key=lambda answer: (answer["query_id"] or "", answer["group"]))


def written(
    answers: list[dict[str, Any]], folder: Path, effort: Effort
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Merge and store answers; returns the summary and the stored rows."""
    settings = AnswerSettings(
        table_uri=str(folder), run_id="run", model_id="model", snapshot_id=4, effort=effort
    )
    (task,) = summaries(write_answers(settings), in_batches(answers, 5, GROUP_ANSWER_SCHEMA))
    if task["file"] is None:
        return task, []
    table = pq.read_table(folder / task["file"]["path"])
    assert table.schema.names == ANSWER_SCHEMA.names
    assert table.num_rows == task["file"]["rows"]
    return task, table.to_pylist()


@pytest.mark.parametrize("max_bytes", [1, 1 << 40])
def test_any_grouping_gives_the_answer_of_brute_force(
    any_index: SmallIndex, max_bytes: int, tmp_path: Path
) -> None:
    n_groups = len(grouped(any_index.directory, max_bytes).value.groups)
    assert n_groups == (SHARDS if max_bytes == 1 else 1)
    random = np.random.default_rng(1)
    queries = {
        f"q{number}": (any_index.vectors[number * 11] + random.normal(size=DIMENSION)).astype(
            np.float32
        )
        for number in range(12)
    }
    values = [query_rows(queries, group) for group in range(n_groups)]
    answers = group_answers(any_index, values, max_bytes, EXHAUSTIVE)
    task, stored = written(answers, tmp_path, EXHAUSTIVE)
    assert (task["ok"], task["skipped"], task["errors"]) == (12, 0, {})
    assert len(stored) == 12 * EXHAUSTIVE.k
    for name, query in queries.items():
        hits = [row for row in stored if row["query_id"] == name]
        distances = np.where(any_index.live, any_index.distances(query), np.inf)
        nearest = np.argsort(distances, kind="stable")[: EXHAUSTIVE.k]
        assert [row["rank"] for row in hits] == list(range(1, EXHAUSTIVE.k + 1))
        assert [row["image_id"] for row in hits] == [any_index.ids[at] for at in nearest]
        np.testing.assert_allclose([row["distance"] for row in hits], distances[nearest], rtol=1e-5)
        assert {(row["model_id"], row["snapshot_id"], row["run_id"]) for row in hits} == {
            ("model", 4, "run")
        }


def test_queries_without_a_vector_are_counted_by_error(
    euclidean_index: SmallIndex, tmp_path: Path
) -> None:
    errors = {"bad": "wrong_length", "bad too": "wrong_length", "old": NOT_OK, None: "null_id"}
    values = [{"query_id": name, "error": error, "group": 0} for name, error in errors.items()]
    values += query_rows({"good": euclidean_index.vectors[9]}, 0)
    answers = group_answers(euclidean_index, [values], 1 << 40, EXHAUSTIVE)
    assert {answer["query_id"]: answer["error"] for answer in answers} == {**errors, "good": None}
    task, stored = written(answers, tmp_path, EXHAUSTIVE)
    assert (task["ok"], task["skipped"]) == (1, 1)
    assert task["errors"] == {"wrong_length": 2, "null_id": 1}
    assert task["named"]["wrong_length"] == ["bad", "bad too"]
    assert {row["query_id"] for row in stored} == {"good"}
    assert stored[0]["image_id"] == euclidean_index.ids[9]


def test_without_an_answer_no_file_is_stored(tmp_path: Path) -> None:
    task, _ = written([], tmp_path, EXHAUSTIVE)
    assert (task["file"], task["ok"]) == (None, 0)
    assert not list(tmp_path.iterdir())


@settings(max_examples=15)
@given(st.integers(1, 6), st.integers(0, 30), st.integers(1, 400))
def test_with_less_effort_groups_answer_as_one_does(
    euclidean_index: SmallIndex, k: int, more: int, search_k: int
) -> None:
    """The merge of three groups is the search of the whole index, whatever the effort."""
    from udfs.search import SkippedRows
    from udfs.search import answers as merged

    effort = Effort(k, k + more, search_k)
    queries = {f"q{number}": euclidean_index.vectors[number] + 0.5 for number in (3, 50, 90)}
    results = []
    for max_bytes, n_groups in ((1, SHARDS), (1 << 40, 1)):
        values = [query_rows(queries, group) for group in range(n_groups)]
        answers = group_answers(euclidean_index, values, max_bytes, effort)
        batches = in_batches(answers, 2, GROUP_ANSWER_SCHEMA)
        results.append(dict(merged(batches, effort, SkippedRows())))
    assert results[0] == results[1]
    assert set(results[0]) == set(queries)
