from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.errors import InvalidIndex
from pool3.index.format.entries import FileEntry, ReductionEntry, ShardEntry, TableEntry
from pool3.index.format.manifest import Manifest, parse_manifest

SHA = "0123456789abcdef" * 4


def entry(path: str) -> FileEntry:
    return FileEntry(path=path, bytes=12, sha256=SHA)


def example(**changes: Any) -> Manifest:
    files = {kind: entry(f"shards/u/{kind}") for kind in ("tree", "vectors", "ids")}
    fields: dict[str, Any] = {
        "snapshot_id": 3,
        "parent": 2,
        "created_at": "2026-01-01T00:00:00+00:00",
        "run_id": "r",
        "metric": "dot",
        "dimension": 2048,
        "reduction": ReductionEntry(
            kind="pca", dimension=128, explained_variance=0.75, file=entry("snapshots/3/r")
        ),
        "n_trees": 50,
        "seed": 1,
        "vectors_dtype": "float16",
        "model_id": "m",
        "model": "models/m",
        "table": TableEntry(uri="/lake/ä", version=4),
        "rows": 7,
        "counts": {"ok": 7, "zero_vector": 1},
        "shards": (
            ShardEntry(number=0, rows=7, seed=1, max_norm=2.5, files=files),
            ShardEntry(number=1, rows=0, seed=2, max_norm=0.0, files={}),
        ),
    }
    return Manifest(**{**fields, **changes})


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(example().to_json())
    change(value)
    return json.dumps(value).encode()


def test_written_and_read():
    manifest = example()
    assert parse_manifest(manifest.to_json(), "m") == manifest
    foreign = example(
        model_id=None,
        model=None,
        parent=None,
        snapshot_id=1,
        table=TableEntry(uri="/t", version=None),
        reduction=ReductionEntry(kind="none", dimension=2048, explained_variance=1, file=None),
    )
    assert parse_manifest(foreign.to_json(), "m") == foreign


def test_equal_manifests_are_equal_bytes():
    backwards = dict(reversed(example().counts.items()))
    assert example(counts=backwards).to_json() == example().to_json()
    assert set(json.loads(example().to_json())) >= {"format_version", "parent", "table", "counts"}


def test_sizes():
    assert len(example().files()) == 4
    assert example().bytes == 48


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\b", "s3://b/k", "a/..", "\0", ""],
)
@pytest.mark.parametrize("where", ["shard", "reduction", "model"])
def test_no_path_leaves_the_index(path, where):
    def change(value):
        if where == "shard":
            value["shards"][0]["files"]["tree"]["path"] = path
        elif where == "reduction":
            value["reduction"]["file"]["path"] = path
        else:
            value["model"] = path

    name = "'model'" if where == "model" else "'path'"
    with pytest.raises(InvalidIndex, match=rf"{name} in .*must be a (relative path|string)"):
        parse_manifest(changed(change), "m.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=3), "format version 3; this release reads 1 and 2"),
        (lambda m: m.pop("metric"), "'metric' in m.json must be one of angular.*found nothing"),
        (lambda m: m.update(metric="cosine"), "found 'cosine'"),
        (lambda m: m.update(metric=["dot"]), "'metric' in m.json"),
        (lambda m: m.update(dimension=0), "'dimension' in m.json must be a whole number"),
        (lambda m: m.update(rows=True), "'rows' in m.json must be a whole number.*True"),
        (lambda m: m.update(rows=8), "states 8 rows, and its shards hold 7"),
        (lambda m: m.update(tombstones=[]), "'tombstones' that this release does not know"),
        (lambda m: m.update(parent=1), "snapshot 3 .* the parent 1"),
        (lambda m: m.update(model_id=None), "must name its model_id"),
        (lambda m: m.update(shards={}), "'shards' in m.json must be a list"),
        (lambda m: m["shards"][1].update(number=0), r"numbered from 0; found \[0, 0\]"),
        (lambda m: m["shards"][0]["files"].pop("ids"), "of 7 rows must have the files"),
        (lambda m: m["shards"][0]["files"].update(x={}), "'path' in 'x' in"),
        (
            lambda m: m["shards"][0].update(dead=2),
            "tombstones exactly where rows of it are deleted",
        ),
        (lambda m: m["shards"][0].update(search_k=[0]), "'search_k' in shards.*whole numbers"),
        (lambda m: m["shards"][0].update(max_norm=-1), "'max_norm' in shards"),
        (lambda m: m["shards"][0].update(max_norm=float("nan")), "'max_norm' in shards"),
        (lambda m: m["shards"][0]["files"]["ids"].update(sha256="AB"), "'sha256' in 'ids'"),
        (lambda m: m["reduction"].update(file=None), "must name a file where the kind is 'pca'"),
        (lambda m: m["reduction"].update(kind="umap"), "found 'umap'"),
        (lambda m: m["table"].update(uri=7), "'uri' in 'table'"),
        (lambda m: m["counts"].update(ok=-1), "'ok' in 'counts'"),
    ],
)
def test_an_error_names_the_field(change, message):
    with pytest.raises(InvalidIndex, match=message):
        parse_manifest(changed(change), "m.json")


def test_an_empty_shard_with_files_is_refused():
    def change(value):
        value["shards"][1]["files"] = value["shards"][0]["files"]

    with pytest.raises(InvalidIndex, match="of 0 rows"):
        parse_manifest(changed(change), "m.json")


def test_without_pca_the_dimension_stays():
    def change(value):
        value["reduction"].update(kind="none", file=None)

    with pytest.raises(InvalidIndex, match="must be 2048; found 128"):
        parse_manifest(changed(change), "m.json")


@given(
    st.one_of(
        st.binary(max_size=50),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_anything_else_is_refused_in_a_sentence(data):
    with pytest.raises(InvalidIndex, match=r"m\.json"):
        parse_manifest(data, "m.json")


@given(st.data())
def test_any_field_replaced_by_anything_is_refused_or_means_itself(data):
    value = json.loads(example().to_json())
    key = data.draw(st.sampled_from(sorted(value)))
    value[key] = data.draw(st.sampled_from([None, -1, 1.5, "", "x", [], {}, [1], {"a": 1}, True]))
    try:
        manifest = parse_manifest(json.dumps(value).encode(), "m.json")
    except InvalidIndex:
        return
    assert json.loads(manifest.to_json()) == value


def shard(number: int, unique: str, *, dead: int = 0, ids: str = SHA) -> ShardEntry:
    files = {kind: entry(f"shards/{unique}/{kind}") for kind in ("tree", "vectors", "ids")}
    files["ids"] = FileEntry(path=files["ids"].path, bytes=12, sha256=ids)
    if dead:
        files["tombstones"] = entry(f"tombstones/{unique}/{number}")
    return ShardEntry(number=number, rows=7, seed=1, max_norm=2.5, files=files, dead=dead)


OTHER = "fedcba9876543210" * 4


def read_with(*shards: ShardEntry) -> Manifest:
    manifest = example(shards=shards, rows=sum(item.live for item in shards))
    return parse_manifest(manifest.to_json(), "m")


def test_a_shard_that_is_listed_twice_is_refused():
    with pytest.raises(InvalidIndex, match="shards/u/ids in the shards 0 and 2"):
        read_with(shard(0, "u"), shard(1, "v", ids=OTHER), shard(2, "u"))
    one, two = shard(0, "u"), shard(1, "v", ids=OTHER)
    shared = {**two.files, "vectors": one.files["vectors"]}
    with pytest.raises(InvalidIndex, match="found shards/u/vectors in the shards 0 and 1"):
        read_with(one, replace(two, files=shared))


def test_a_copy_of_a_shard_is_refused_unless_its_rows_were_deleted():
    with pytest.raises(InvalidIndex, match="shards 0 and 1 have the same ids: shards/v/ids"):
        read_with(shard(0, "u"), shard(1, "v"))
    with pytest.raises(InvalidIndex, match="have the same ids"):
        read_with(shard(0, "u", dead=3), shard(1, "v", dead=3))
    read_with(shard(0, "u"), shard(1, "v", ids=OTHER))
    read_with(shard(0, "u", dead=3), shard(1, "v", dead=4))  # deleted, and added again
