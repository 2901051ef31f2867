"""The options of a search: declared once, checked, and warned about once."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import pool3
from pool3.index.format.recall_curve import RecallCurve, RecallPoint
from pool3.index.recall.effort import DEFAULT_RERANK
from pool3.index.shards.selection import Selections
from pool3.index.snapshots.snapshot import Snapshot, open_snapshot
from pool3.search.index import Index
from pool3.search.request import (
    BatchOptions,
    SearchOptions,
    SearchRequests,
    checked_queries,
    checked_query,
)
from pool3.search.shard_set import ShardSet

VECTORS = np.random.default_rng(2).normal(size=(30, 6)).astype(np.float32)


@pytest.fixture
def snapshot(make_index: Callable[..., Path]) -> Snapshot:
    metadata = pa.table({"label": ["a", "b"] * 15})
    return open_snapshot(make_index(VECTORS, n_shards=2, metadata=metadata))


def requests_of(snapshot: Snapshot) -> SearchRequests:
    return SearchRequests(snapshot, Selections(ShardSet(snapshot).readers))


def measured(snapshot: Snapshot, low: float) -> Snapshot:
    """Return the snapshot with a recall curve of one point, for 10 hits."""
    shards = tuple(replace(entry, search_k=(40,)) for entry in snapshot.manifest.shards)
    point = RecallPoint(
        level=0, search_k=80, rerank=20, ms=1.0, recall={"10": low}, low={"10": low}
    )
    curve = RecallCurve(samples=100, rows=30, points=(point,))
    manifest = replace(snapshot.manifest, shards=shards, recall=curve)
    return Snapshot.of(snapshot.uri, manifest, snapshot.reduction)


def keywords(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    own = ("self", "query", "vectors", "image_id", "k")
    if function is Index.search:  # of which `vectors` is an option
        own = ("self", "query", "image_id", "k")
    return {name: parameter for name, parameter in parameters.items() if name not in own}


@pytest.mark.parametrize(
    ("function", "options"),
    [(Index.search, SearchOptions), (Index.search_batch, BatchOptions)],
)
def test_a_signature_shows_the_declared_options(
    function: Callable[..., object], options: type
) -> None:
    shown = keywords(function)
    assert list(shown) == list(options.__annotations__)
    for name, parameter in shown.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is (False if name in ("exclude_self", "vectors") else None)


def test_each_option_is_described() -> None:
    described = re.findall(r"^        (\w+)$", Index.search.__doc__ or "", re.MULTILINE)
    assert set(SearchOptions.__annotations__) <= set(described)


def test_an_option_is_checked_whichever_way_it_is_given(snapshot: Snapshot) -> None:
    request = requests_of(snapshot).make(
        3, {"where": "label = 'a'", "distinct": "label", "rerank": 7, "search_k": 50}
    )
    assert (request.effort.k, request.effort.rerank, request.effort.search_k) == (3, 7, 50)
    assert (request.selection.rows, request.selection.hits) == (15, 1)
    assert (request.exclude_self, request.vectors) == (False, False)
    given = {"columns": ["label"], "uri_map": {"a": "b"}, "exclude_self": True, "vectors": True}
    request = requests_of(snapshot).make(3, given)  # type: ignore[typeddict-item]
    assert request.hit_columns.columns == ["label"]
    assert request.hit_columns.uri_map == {"a": "b"}
    assert (request.exclude_self, request.vectors) == (True, True)


def test_defaults(snapshot: Snapshot) -> None:
    request = requests_of(snapshot).make(3, {})
    assert (request.effort.rerank, request.effort.recall) == (DEFAULT_RERANK, None)
    assert request.selection.rows == 30
    assert request.hit_columns.names() == ["label"]


def test_an_unknown_keyword_is_a_type_error(snapshot: Snapshot) -> None:
    index = Index(snapshot)
    with pytest.raises(TypeError, match="search got an unexpected keyword argument 'colour'"):
        index.search(VECTORS[0], colour="red")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="search_batch got an unexpected keyword argument 'colour'"):
        index.search_batch(VECTORS, colour="red")  # type: ignore[call-arg]
    # An option of `search` that a batch of ids and distances has no use for.
    with pytest.raises(TypeError, match=r"search_batch got an unexpected keyword .*'distinct'"):
        index.search_batch(VECTORS, distinct="label")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="colour"):
        index.search_id("id000000", colour="red")  # type: ignore[call-arg]


def test_each_k_and_recall_is_warned_about_once(snapshot: Snapshot) -> None:
    requests = requests_of(measured(snapshot, low=0.9))
    for k, options, message in (
        (10, {}, "no measured effort surely finds 0.95 of the 10 nearest"),
        (10, {"recall": 0.99}, "no measured effort surely finds 0.99 of the 10 nearest"),
        (9, {}, "no measured effort surely finds 0.95 of the 9 nearest"),
        (11, {}, "was not measured for 11 hits"),
    ):
        with pytest.warns(UserWarning, match=message) as caught:
            requests.make(k, options)  # type: ignore[arg-type]
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            requests.make(k, options)  # type: ignore[arg-type]


def test_a_reached_recall_and_an_explicit_effort_are_not_warned_about(snapshot: Snapshot) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        requests = requests_of(measured(snapshot, low=0.96))
        assert requests.make(10, {}).effort.recall == 0.96
        requests = requests_of(measured(snapshot, low=0.5))
        assert requests.make(10, {"rerank": 20}).effort.recall is None
        assert requests.make(10, {"search_k": 20}).effort.recall is None
        # Recall was not measured, and none was requested.
        requests_of(snapshot).make(10, {})


def test_another_open_index_warns_again(snapshot: Snapshot) -> None:
    for index in (Index(measured(snapshot, low=0.9)), Index(measured(snapshot, low=0.9))):
        with pytest.warns(UserWarning, match="surely finds 0.95"):
            index.search(VECTORS[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int64])
def test_queries_become_float32(snapshot: Snapshot, dtype: type) -> None:
    vectors = (np.abs(VECTORS[:4]) * 9 + 1).astype(dtype)
    checked = checked_queries(vectors[:, ::-1], snapshot)
    assert (checked.dtype, checked.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(checked, vectors[:, ::-1].astype(np.float32))
    np.testing.assert_array_equal(checked_query(vectors[0], snapshot), vectors[0])


def test_a_query_of_another_shape_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(pool3.UsageError, match=r"one-dimensional .*float64 of shape \(1, 6\)"):
        checked_query(np.ones((1, 6)), snapshot)
    with pytest.raises(pool3.UsageError, match=r"must have 6 numbers, as those of .*; found 5"):
        checked_query(np.ones(5), snapshot)
