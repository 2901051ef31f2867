"""Queries from tables of vectors and from pictures, with the error of each that has no vector."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql.pandas.types import to_arrow_schema

from pool3.engines import cache, loads
from pool3.search.queries import QueryTable, open_queries
from tests.jobs.colour_model import SIDE, colour_graph
from tests.pool3.features.small_tables import put, row, write_part
from tests.udfs.arrow import Broadcast, file_batches, in_batches, rows
from udfs.queries import (
    ID_SCHEMA,
    NOT_OK,
    PICTURE_SCHEMA,
    QUERY_SCHEMA,
    QueryModel,
    list_query_ids,
    picture_queries,
    read_queries,
)  # fmt: skip


def opened(where: Path) -> QueryTable:
    queries = open_queries(str(where))
    assert isinstance(queries, QueryTable)
    return queries


def result_of(queries: QueryTable, metric: str = "angular") -> dict[str | None, object]:
    """Return the vector or the error of each query."""
    function = read_queries(queries, dimension=2, metric=metric)
    result: dict[str | None, object] = {}
    for query in rows(function, file_batches(queries.table.files), QUERY_SCHEMA):
        assert query["query_id"] not in result
        error, vector = query["error"], query["vector"]
        assert vector is not None or error is not None
        result[query["query_id"]] = error or np.frombuffer(vector, "<f4").tolist()
    return result


def test_vectors_of_a_foreign_table(tmp_path: Path) -> None:
    vectors = [[1.0, 2.0], None, [3.0], [0.0, 0.0], [np.nan, 1.0], [5.0, 6.0]]
    ids = [10, 11, 12, 13, 14, None]
    table = pa.table({"query_id": pa.array(ids, pa.int64()), "features": vectors})
    pq.write_table(table.slice(0, 4), tmp_path / "a.parquet")
    pq.write_table(table.slice(4), tmp_path / "b.parquet")
    queries = opened(tmp_path)
    errors = {"11": "null_vector", "12": "wrong_length", "14": "not_finite", None: "null_id"}
    assert result_of(queries) == {"10": [1.0, 2.0], "13": "zero_vector", **errors}
    assert result_of(queries, "euclidean")["13"] == [0.0, 0.0]
    listed = rows(list_query_ids(queries), file_batches(queries.table.files), ID_SCHEMA)
    assert [row["query_id"] for row in listed] == ["10", "11", "12", "13", "14"]


def test_rows_of_a_feature_table_that_are_not_ok_are_skipped(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    failed = row("b", status="failed", error="empty", features=None)
    gone = row("c", status="gone", features=None)
    usable, short = row("a", features=[1.0, 2.0]), row("d", features=[1.0])
    put(uri, [write_part(uri, [failed, usable, gone, short])])
    assert result_of(opened(tmp_path / "t")) == {
        "a": [1.0, 2.0], "b": NOT_OK, "c": NOT_OK, "d": "wrong_length",
    }  # fmt: skip


class CountedGraph:
    """A broadcast of a graph that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    @property
    def value(self) -> bytes:
        self.reads += 1
        return colour_graph()


@pytest.fixture
def model() -> QueryModel:
    return QueryModel(
        model_id="m",
        graph_sha256=hashlib.sha256(colour_graph()).hexdigest(),
        dimension=3,
        metric="euclidean",
        input_size=SIDE,
        resize="pil-bilinear",
        colour="srgb",
    )


def test_pictures_are_queries_with_the_features_of_the_model(
    tmp_path: Path, model: QueryModel
) -> None:
    colours = {"red.png": (255, 0, 0), "blue.png": (0, 0, 255), "other.png": (10, 200, 30)}
    for name, colour in colours.items():
        Image.new("RGB", (40, 30), colour).save(tmp_path / name)
    (tmp_path / "empty.png").write_bytes(b"")
    uris = [str(tmp_path / name) for name in [*colours, "empty.png", "missing.png"]]
    values = [{"uri": uri, "size": 1 if "empty" not in uri else 0} for uri in uris]
    batches = in_batches(values, 2, to_arrow_schema(PICTURE_SCHEMA))
    graph = Broadcast(colour_graph())
    result = rows(picture_queries(model, graph), batches, QUERY_SCHEMA)
    result.sort(key=lambda query: uris.index(query["query_id"]))
    assert [query["query_id"] for query in result] == uris
    assert [query["error"] for query in result] == [None, None, None, "empty", "not_found"]
    for query, colour in zip(result, colours.values(), strict=False):
        np.testing.assert_allclose(np.frombuffer(query["vector"], "<f4"), colour, atol=1e-3)
    assert [query["vector"] for query in result[3:]] == [None, None]


def test_a_worker_that_has_the_model_does_not_read_the_graph(
    tmp_path: Path, model: QueryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_cache", cache._Cache())
    graph, before = CountedGraph(), loads()
    for number in range(2):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / "a.png")
        values = [{"uri": str(tmp_path / "a.png"), "size": 1}]
        batches = in_batches(values, 1, to_arrow_schema(PICTURE_SCHEMA))
        result = list(picture_queries(model, graph)(batches))
        assert sum(batch.num_rows for batch in result) == 1
    assert (graph.reads, loads() - before) == (1, 1)
