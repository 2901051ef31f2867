"""The options of a search: where, distinct, exclude_self, columns, recall and others."""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import pool3
from pool3.errors import UsageError
from pool3.index.format.entries import TOMBSTONES, FileEntry, ShardEntry
from pool3.index.format.recall_curve import RecallCurve, RecallPoint
from pool3.search import query_search
from pool3.search.index import Index
from pool3.vectors.distances import METRICS, distances
from tests.small_index import open_with

FACTORY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def vectors_of(n_rows: int, dimension: int = 6, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n_rows, dimension))
    if n_rows > 3:
        rows[n_rows // 2 :: 3] = rows[0]
    return rows.astype(np.float32)


def metadata_of(n_rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    labels = ["tram", "bus", "dog", None]
    return pa.table(
        {
            "uri": [f"/lake/{n}.jpg" for n in range(n_rows)],
            "width": pa.array(rng.integers(0, 10, n_rows), pa.int32()),
            "meta.label": [labels[n] for n in rng.integers(0, 4, n_rows)],
            "thumbnail": pa.array([b"jpeg"] * n_rows, pa.binary()),
        }
    )


def with_deleted(index: Index, deleted_ids: set[str]) -> Index:
    """The same index with tombstones for some of its pictures."""
    entries = []
    for shard in index._fan_out.shards.readers:
        rows = [row for row in range(len(shard.ids)) if shard.ids.value(row) in deleted_ids]
        entry: ShardEntry = shard.entry
        if rows:
            path = Path(index.uri) / "shards" / f"deleted-{entry.number}-{len(deleted_ids)}.npy"
            np.save(path, np.array(rows, dtype=np.uint32))
            data = path.read_bytes()
            file = FileEntry(
                path=f"shards/{path.name}",
                bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
            )
            files = {**entry.files, TOMBSTONES: file}
            entry = replace(entry, dead=len(rows), files=files)
        entries.append(entry)
    empty = [entry for entry in index.manifest.shards if not entry.rows]
    shards = sorted([*entries, *empty], key=lambda entry: entry.number)
    live = sum(entry.live for entry in shards)
    return open_with(index.uri, replace(index.manifest, rows=live, shards=tuple(shards)))


def model_of(index: Index) -> list[dict]:
    """All live rows, with id, stored vector and metadata."""
    return [
        {
            "image_id": shard.ids.value(row),
            "vector": shard.rows_at(np.array([row]))[0],
            **shard.metadata.row(row).to_pylist()[0],
        }
        for shard in index._fan_out.shards.readers
        for row in range(len(shard.ids))
        if shard.live is None or shard.live[row]
    ]


def passing(rows: list[dict], where: str | None) -> list[dict]:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE rows (n, image_id, width, label)")
    database.executemany(
        "INSERT INTO rows VALUES (?, ?, ?, ?)",
        [(n, row["image_id"], row["width"], row["meta.label"]) for n, row in enumerate(rows)],
    )
    numbers = database.execute(f"SELECT n FROM rows WHERE {where or 'TRUE'}")
    return [rows[n] for (n,) in numbers]


def expected(rows, query, metric, k, distinct=None) -> list[tuple[float, str]]:
    if not rows:
        return []
    measured = distances(query, np.stack([row["vector"] for row in rows]), metric)
    order = sorted(range(len(rows)), key=lambda at: (measured[at], rows[at]["image_id"]))
    seen, best = set(), []
    for at in order:
        value = None if distinct is None else rows[at][distinct]
        if value is None or value not in seen:
            best.append((float(measured[at]), rows[at]["image_id"]))
            seen.add(value)
    return best[:k]


WHERES = st.sampled_from(
    [
        None,
        "label = 'tram'",
        "label IN ('tram', 'bus') OR width < 2",
        "NOT label = 'dog'",
        "width > 8 AND image_id > 'id000020'",
        "image_id = 'id000007'",
        "width > 100",
    ]
)


@FACTORY
@given(data=st.data())
def test_any_search_gives_the_brute_force_answer(make_index, data):
    n_rows = data.draw(st.integers(1, 70), "rows")
    metric = data.draw(st.sampled_from(METRICS), "metric")
    seed = data.draw(st.integers(0, 100), "seed")
    vectors = vectors_of(n_rows, seed=seed)
    index = pool3.open(
        make_index(
            vectors,
            metric=metric,
            n_shards=data.draw(st.integers(1, 4), "shards"),
            n_trees=data.draw(st.integers(1, 3), "trees"),
            metadata=metadata_of(n_rows, seed),
        )
    )
    ids = [f"id{n:06d}" for n in range(n_rows)]
    index = with_deleted(index, set(data.draw(st.lists(st.sampled_from(ids)), "deleted")))
    rows = model_of(index)
    assert len(rows) == len(index)
    where = data.draw(WHERES, "where")
    distinct = data.draw(st.sampled_from([None, "width", "label"]), "distinct")
    column = "meta.label" if distinct == "label" else distinct
    k = data.draw(st.integers(1, 30), "k")
    query = vectors[seed % n_rows] + np.float32(0.01 * (seed % 3))
    chosen = passing(rows, where)
    with pytest.MonkeyPatch.context() as patch:
        # Both ways of searching, though the index is small.
        patch.setattr(query_search, "FEW_ROWS", data.draw(st.sampled_from([0, 5, 4096]), "few"))
        patch.setattr(query_search, "ENTRY_COST", data.draw(st.sampled_from([0, 0.1]), "cost"))
        hits = index.search(
            query, k=k, where=where, distinct=distinct, search_k=10**9, rerank=max(k, n_rows)
        )
        answer = expected(chosen, query, metric, k, column)
        assert list(zip(hits.distances.tolist(), hits.ids, strict=True)) == answer
        # At the smallest effort: as many, true ones, none twice.
        least = index.search(query, k=k, where=where, distinct=distinct, search_k=1, rerank=k)
        assert len(least) == len(set(least.ids)) == len(answer)
        by_id = {row["image_id"]: row for row in chosen}
        values = [by_id[image_id][column] for image_id in least.ids] if column else []
        assert len({v for v in values if v is not None}) == sum(v is not None for v in values)
        if distinct is None:
            batch_ids, measured = index.search_batch(
                [query, vectors[0]], k=k, where=where, search_k=1, rerank=k
            )
            assert batch_ids[0].tolist() == least.ids
            assert measured[0].tolist() == least.distances.tolist()


def test_few_that_pass_are_all_measured(make_index):
    vectors = vectors_of(300)
    index = pool3.open(make_index(vectors, n_shards=3, metadata=metadata_of(300)))
    hits = index.search(vectors[5], k=5, where="label = 'tram'", search_k=1, rerank=5)
    assert hits.recall == 1.0
    rows = passing(model_of(index), "label = 'tram'")
    assert list(zip(hits.distances.tolist(), hits.ids, strict=True)) == expected(
        rows, vectors[5], "angular", 5
    )
    assert index.search(vectors[5], k=5, search_k=1, rerank=5).recall is None


def test_a_search_by_tree_has_nearly_all_that_pass(make_index, monkeypatch):
    monkeypatch.setattr(query_search, "FEW_ROWS", 0)
    monkeypatch.setattr(query_search, "ENTRY_COST", 0)
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(20, 150)) * 2
    of = rng.integers(0, 20, 4000)
    vectors = (centres[of] + rng.normal(size=(4000, 150))).astype(np.float32)
    # Pictures of one cluster pass, and queries come from all clusters: no near rows pass.
    labels = pa.table({"cluster": of, "part": rng.integers(0, 10, 4000)})
    index = pool3.open(make_index(vectors, n_shards=2, n_trees=10, metadata=labels))
    for where in ("cluster = 3", "part = 3", "part != 3"):
        column, number = where.split()[0], 3
        passes = np.asarray(labels[column]) == number
        rows = np.flatnonzero(~passes if "!" in where else passes)
        recalls = []
        for query in vectors[:40]:
            hits = index.search(query, k=10, where=where)
            truth = np.sort(distances(query, vectors[rows].astype(np.float16), "angular"))[9]
            assert {int(image_id[2:]) for image_id in hits.ids} <= set(rows.tolist())
            recalls.append(np.mean(hits.distances <= truth + 1e-4))
        assert np.mean(recalls) > 0.9


def test_hits_come_back_when_all_near_ones_are_deleted(make_index):
    rng = np.random.default_rng(1)
    vectors = np.concatenate([np.ones((500, 8)), -np.ones((20, 8))])
    vectors = (vectors + 0.01 * rng.normal(size=(520, 8))).astype(np.float32)
    index = pool3.open(make_index(vectors, n_shards=2, metadata=metadata_of(520)))
    remaining = with_deleted(index, {f"id{n:06d}" for n in range(500)})
    hits = remaining.search(vectors[0], k=30, search_k=1, rerank=30)
    assert sorted(hits.ids) == [f"id{n:06d}" for n in range(500, 520)]
    assert remaining.search_batch(vectors[:1], k=30)[0].shape == (1, 20)
    with pytest.raises(UsageError, match="no picture 'id000003'"):
        remaining.search_id("id000003")


def test_exclude_self(make_index, tmp_path):
    vectors = vectors_of(40)
    index = pool3.open(make_index(vectors, n_shards=3, metadata=metadata_of(40)))
    for k in (5, 39, 40):
        hits = index.search(image_id="id000000", k=k, exclude_self=True)
        assert "id000000" not in hits.ids
        assert len(hits) == min(k, 39)
        # Equal pictures stay: they are other pictures.
        assert hits.distances[0] == 0
    plain = index.search(image_id="id000004", k=3, where="width >= 0")
    without = index.search(image_id="id000004", k=2, where="width >= 0", exclude_self=True)
    assert plain.ids[1:] == without.ids
    # The only picture with its value is left out, and the search still ends.
    names = pa.table({"name": ["one"] + ["other"] * 39})
    named = pool3.open(make_index(vectors, metadata=names))
    hits = named.search(image_id="id000000", k=5, distinct="name", exclude_self=True)
    assert len(hits) == 1
    with pytest.raises(UsageError, match=r"exclude_self needs .* found ndarray"):
        index.search(vectors[0], exclude_self=True)


def test_exclude_self_by_uri(make_index, tmp_path, monkeypatch):
    uris = [str(tmp_path / f"{n}.png") for n in range(6)]
    for n, uri in enumerate(uris):
        Image.new("RGB", (8, 8), (40 * n, 10, 10)).save(uri)
    vectors = vectors_of(6)
    monkeypatch.setattr(
        "pool3.search.pictures.PictureModel.vectors",
        lambda _self, pictures: vectors[: len(pictures)],
    )
    monkeypatch.setattr("pool3.search.pictures.PictureModel.draft_side", lambda _self: None)
    by_id = pool3.open(make_index(vectors, ids=uris))
    by_uri = pool3.open(make_index(vectors, metadata=pa.table({"uri": uris}), n_shards=2))
    first, second = by_id.search(uris[:2], k=6, exclude_self=True)
    assert uris[0] not in first.ids
    assert uris[1] not in second.ids
    assert len(first) == len(second) == 5
    assert sorted(by_uri.search(Path(uris[2]), k=6, exclude_self=True).uris) == sorted(
        uris[:2] + uris[3:]
    )
    assert len(by_id.search(uris[0], k=6)) == 6


def test_columns_vectors_and_moved_pictures(make_index):
    vectors = vectors_of(30)
    index = pool3.open(
        make_index(vectors, n_shards=3, metadata=metadata_of(30), metric="euclidean")
    )
    hits = index.search(vectors[2], k=4, columns=["label", "thumbnail", "image_id"], vectors=True)
    frame = hits.to_pandas()
    assert list(frame.columns) == ["rank", "image_id", "distance", "label", "thumbnail"]
    assert frame["thumbnail"].tolist() == [b"jpeg"] * 4
    assert hits.vectors.dtype == np.float32
    again = distances(vectors[2], hits.vectors, "euclidean")
    np.testing.assert_allclose(again, hits.distances, rtol=1e-6)
    assert index.search(vectors[2]).vectors is None
    moved = index.search(
        vectors[2], k=30, uri_map={"/lake/": "s3://new/", "/lake/1": "/one/", "/nowhere": "x"}
    )
    assert set(moved.uris) == {
        f"/one/{str(n)[1:]}.jpg" if str(n)[0] == "1" else f"s3://new/{n}.jpg" for n in range(30)
    }
    for options, message in (
        ({"columns": ["nobody"]}, "columns names the column 'nobody'"),
        ({"columns": "label"}, "columns must be a list of names; found the string"),
        ({"columns": [3]}, "columns names the column 3"),
        ({"uri_map": {"a": 3}}, "uri_map must map strings to strings"),
        ({"uri_map": "ab"}, "uri_map must map strings to strings"),
        ({"distinct": "nobody"}, "distinct names the column 'nobody'"),
        ({"distinct": 3}, "distinct must be the name of a column; found 3"),
        ({"where": 3}, "where must be a string; found 3"),
        ({"where": "nobody = 1"}, "where names the column 'nobody'"),
    ):
        with pytest.raises(UsageError, match=message):
            index.search(vectors[2], **options)


def test_shards_may_lack_columns(make_index):
    vectors = vectors_of(20)
    index = pool3.open(make_index(vectors, n_shards=2, metadata=metadata_of(20)))
    first, second = index.manifest.shards
    bare = replace(second, files={k: f for k, f in second.files.items() if k != "metadata"})
    index = open_with(index.uri, replace(index.manifest, shards=(first, bare)))
    hits = index.search(vectors[0], k=20, where="label IS NULL", distinct="label")
    assert sum(int(image_id[2:]) % 2 for image_id in hits.ids) == 10
    frame = index.search(vectors[0], k=20).to_pandas()
    assert frame["width"].isna().sum() == 10
    nested = pool3.open(make_index(vectors, metadata=pa.table({"tags": [["a"]] * 20})))
    with pytest.raises(UsageError, match="distinct takes a column of plain values"):
        nested.search(vectors[0], distinct="tags")


def measured_index(make_index, *lows: float) -> Index:
    """An index whose curve has these lower bounds of recall@10, the cheapest first."""
    index = pool3.open(make_index(vectors_of(60), n_shards=2))
    shards = [replace(entry, search_k=(40,) * len(lows)) for entry in index.manifest.shards]
    points = [
        RecallPoint(
            level=level,
            search_k=80,
            rerank=20,
            ms=1.0 + level,
            recall={"1": 1.0, "10": 1.0},
            low={"1": 0.9, "10": low},
        )
        for level, low in enumerate(lows)
    ]
    curve = RecallCurve(samples=1000, rows=60, points=tuple(points))
    return open_with(index.uri, replace(index.manifest, shards=tuple(shards), recall=curve))


def test_the_recall_of_a_search(make_index):
    index = measured_index(make_index, 0.9, 0.96, 0.97)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert index.search(np.ones(6), k=10).recall == 0.96
        assert index.search(np.ones(6), k=5, recall=0.97).recall == 0.97
        assert index.search(np.ones(6), recall=0.1).recall == 0.9
        assert index.search_vector(np.ones(6), recall=0.97).recall == 0.97
        assert index.search(np.ones(6), search_k=5).recall is None
        assert index.search(np.ones(6), where="image_id > ''").recall == 1.0
        assert index.search(np.ones(6), distinct="image_id").recall is None
    for k, wanted, message in (
        (10, 0.99, "no measured effort surely finds 0.99 of the 10 nearest.*finds 0.97"),
        (15, None, "was not measured for 15 hits"),
        (50, None, "was not measured for 50 hits"),
    ):
        with pytest.warns(UserWarning, match=message) as caught:
            index.search(np.ones(6), k=k, recall=wanted)
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once is enough
            index.search_vector(np.ones(6), k=k, recall=wanted)
    bare = pool3.open(make_index(vectors_of(60)))
    with pytest.warns(UserWarning, match="was never measured, so that 0.9 may be missed"):
        bare.search(np.ones(6), recall=0.9)
    with pytest.raises(UsageError, match="either recall or rerank and search_k"):
        index.search(np.ones(6), recall=0.9, rerank=20)
    with pytest.raises(UsageError, match="recall must be above 0"):
        index.search_batch(np.ones((1, 6)), recall=2)
    assert index.info()["recall"]["at_10"]["low"] == 0.96
    assert bare.info()["recall"] is None
    with pytest.raises(UsageError, match="was never measured"):
        bare.plot_recall()


def test_refresh_opens_the_newest_snapshot(make_index):
    directory = make_index(vectors_of(8))
    index = pool3.open(directory)
    assert index.refresh() is index
    make_index(vectors_of(9), into=directory, published=False)
    assert index.refresh() is index
    make_index(vectors_of(10), into=directory)
    newest = index.refresh()
    assert (len(index), len(newest), newest.snapshot_id) == (8, 10, 3)
    manifest = Path(newest.uri) / "snapshots" / f"{3:020d}" / "manifest.json"
    sha256 = hashlib.sha256(manifest.read_bytes()).hexdigest()
    pinned = pool3.open(directory, expected_sha256=sha256)
    with pytest.raises(UsageError, match="opened with expected_sha256"):
        pinned.refresh()
    assert pinned.refresh(expected_sha256=sha256) is pinned


def test_info_counts_deltas_and_tombstones(make_index):
    index = with_deleted(
        pool3.open(make_index(vectors_of(20), n_shards=2, metadata=metadata_of(20))), {"id000003"}
    )
    first, second = index.manifest.shards
    manifest = replace(
        index.manifest, shards=(first, replace(second, added_in=2)), unseen_rows=10, base=1
    )
    info = open_with(index.uri, manifest).info()
    assert (info["tombstones"], info["n_delta_shards"], info["rows"]) == (1, 1, 19)
    assert info["unseen_share"] == pytest.approx(10 / 19)
