from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pool3
from pool3.errors import InvalidIndex
from pool3.index.format.entries import EVIDENCE, ShardEntry
from pool3.index.format.manifest import Manifest, parse_manifest
from pool3.index.format.recall_curve import MEASURED_KS, RecallCurve, RecallPoint, lower_bound
from pool3.index.recall.estimate import RERANKS, ShardEvidence, measure
from pool3.index.recall.evidence import Evidence
from pool3.index.recall.levels import added_search_k, levels, shard_search_k
from pool3.index.recall.measure import stored_samples, with_curve, with_levels, with_recall
from pool3.index.recall.picker import SamplePicker, sample_keys
from pool3.index.recall.samples import MAX_NEIGHBOURS, Neighbours, SampleQueries, update_samples
from pool3.index.shards.tombstones import add_tombstones, live_mask
from pool3.index.snapshots.publication import publish, write_manifest
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.vectors.distances import METRICS, distances

N_TREES = 4

pytestmark = pytest.mark.filterwarnings("ignore:no measured effort")


def clustered(n_rows: int, seed: int, dimension: int = 150) -> np.ndarray:
    """Return rows around a few centres, so that PCA loses the differences between near ones."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(12, dimension))
    rows = 0.3 * centres[rng.integers(0, 12, n_rows)] + rng.normal(size=(n_rows, dimension))
    return rows.astype(np.float32)


def write_next(index: Path, manifest: Manifest) -> Manifest:
    """Write a manifest under the next number and publish it."""
    parent = manifest.snapshot_id
    manifest = replace(manifest, snapshot_id=parent + 1, parent=parent)
    write_manifest(str(index), manifest)
    publish(str(index), manifest.snapshot_id, by="test", why="measured")
    return manifest


def measured_index(make_index, metric: str, *, own: bool = False, n_rows: int = 2400) -> tuple:
    """Return an index with recall, its rows, and held-out queries (or its own rows) as samples."""
    rows = clustered(n_rows, 1)
    if metric == "dot":
        rows *= np.random.default_rng(5).uniform(0.5, 2, (n_rows, 1)).astype(np.float32)
    index = make_index(rows, metric=metric, n_shards=3, n_trees=N_TREES)
    snapshot = open_snapshot(index)
    ids, queries = [f"held-out-{at}" for at in range(40)], clustered(40, 2)
    if own:
        picker = SamplePicker(rows.shape[1], limit=40)
        picker.add([f"id{row:06d}" for row in range(n_rows)], rows)
        ids, queries = picker.picked()
    return index, rows, write_next(index, with_recall(snapshot, ids, queries))


def with_only(
    index: Path, manifest: Manifest, curve: RecallCurve, level: int, rerank: int
) -> tuple[Manifest, RecallPoint]:
    """Write a snapshot whose curve has one point, which every search then takes."""
    point = next(p for p in curve.points if (p.level, p.rerank) == (level, rerank))
    only = replace(curve, points=(point,))
    return write_next(index, replace(manifest, recall=only)), point


def share_of_hits(index: Path, queries: np.ndarray, limits: np.ndarray, k: int) -> float:
    _, measured = pool3.open(index).search_batch(queries, k=k)
    return float((measured <= limits + 1e-9 * np.abs(limits)).mean())


def true_distances(rows: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    """Return the distances of each query to all stored rows, ascending, (q, n)."""
    if metric == "angular":  # as they are stored, `vectors.storable`
        rows = rows / 2.0 ** np.frexp(np.abs(rows).max(axis=1))[1][:, None]
    stored = rows.astype(np.float16)
    return np.array([np.sort(distances(query, stored, metric)) for query in queries])


@pytest.mark.parametrize("metric", METRICS)
def test_measured_recall_is_that_of_searches(make_index, metric):
    index, rows, manifest = measured_index(make_index, metric)
    queries = clustered(40, 2)
    curve = manifest.recall
    assert (curve.samples, curve.rows) == (40, 2400)
    assert len(curve.points) == len(levels(2400, N_TREES)) * len(RERANKS)
    true = true_distances(rows, queries, metric)
    for level, rerank, k in [(0, 20, 10), (1, 50, 10), (3, 200, 100), (2, 20, 1), (0, 400, 100)]:
        manifest, point = with_only(index, manifest, curve, level, rerank)
        share = share_of_hits(index, queries, true[:, k - 1 : k], k)
        if level or k < 100:
            assert point.recall[str(k)] == pytest.approx(share, abs=1e-12), point
        else:
            # A search that gathers fewer than k rows gathers more.
            assert point.recall[str(k)] < share + 1e-9
    assert len({point.recall["10"] for point in curve.points}) > 5


def test_measured_points_are_sensible(make_index):
    index, rows, manifest = measured_index(make_index, "angular", own=True)
    points = {(point.level, point.rerank): point for point in manifest.recall.points}
    n_levels = len(levels(len(rows), N_TREES))
    for (level, rerank), point in points.items():
        assert set(point.recall) == {str(k) for k in MEASURED_KS if k <= rerank}
        assert point.search_k >= levels(len(rows), N_TREES)[level]
        for k, recall in point.recall.items():
            assert point.low[k] == lower_bound(recall, 40)
            # More effort never finds less: neither more rows gathered nor more measured.
            if level + 1 < n_levels:
                assert points[level + 1, rerank].ms > 0
            for deeper in RERANKS:
                if deeper > rerank:
                    assert points[level, deeper].recall[k] >= recall
                    assert points[level, deeper].ms > point.ms
    # A sample never finds itself, which would be the easiest hit.
    for shard, evidence in stored_evidence(index, manifest):
        ids = [f"id{row:06d}" for row in range(len(rows)) if row % 3 == shard.number]
        for key, start, end in zip(
            evidence.samples, evidence.starts, evidence.starts[1:], strict=False
        ):
            assert key not in sample_keys([ids[row] for row in evidence.rows[start:end]])
    assert parse_manifest(manifest.to_json(), "there") == manifest


def stored_evidence(index: Path, manifest: Manifest) -> list[tuple[ShardEntry, Evidence]]:
    return [
        (shard, Evidence.from_bytes((index / shard.files[EVIDENCE].path).read_bytes()))
        for shard in manifest.shards
    ]


def test_an_index_that_is_searched_whole_is_certain(make_index):
    _, _, manifest = measured_index(make_index, "euclidean", own=True, n_rows=70)
    last = max(point.level for point in manifest.recall.points)
    for point in manifest.recall.points:
        if point.level == last and point.rerank >= 100:
            assert dict(point.low) == dict(point.recall) == {"1": 1.0, "10": 1.0, "100": 1.0}
        else:
            assert all(low < 1 for low in point.low.values())
    assert manifest.recall.cheapest(10, 1.0).rerank == 100


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_tiny_indexes_are_measured_too(make_index, n_rows):
    index, _, manifest = measured_index(make_index, "angular", own=True, n_rows=n_rows)
    assert manifest.recall.cheapest(1, 1.0).low == {"1": 1.0, "10": 1.0, "100": 1.0}
    ids, _ = pool3.open(index).search_batch(clustered(1, 3), k=10, recall=1.0)
    assert len(ids[0]) == n_rows


def test_deleted_rows_are_neither_neighbours_nor_hits(make_index):
    index, rows, manifest = measured_index(make_index, "euclidean")
    root, queries = str(index), clustered(40, 2)
    samples = stored_samples(open_snapshot(root))
    limits_before = true_distances(rows, queries, "euclidean")[:, 9:10]
    stored = rows.astype(np.float16)
    nearest = {int(np.argmin(distances(query, stored, "euclidean"))) for query in queries}
    shards = [
        add_tombstones(
            root,
            shard,
            [row // 3 for row in sorted(nearest) if row % 3 == shard.number],
            snapshot=manifest.snapshot_id + 1,
            unique="test",
        )
        for shard in manifest.shards
    ]
    deleted_ids = {f"id{row:06d}" for row in nearest}
    assert sum(int((~live_mask(root, shard)).sum()) for shard in shards) == len(nearest) > 10
    manifest = replace(manifest, shards=tuple(shards), rows=2400 - len(nearest))
    manifest = write_next(
        index, with_curve(root, manifest, update_samples(samples, [], deleted_ids))
    )
    assert manifest.recall.rows == 2400 - len(nearest)
    live = np.delete(rows, sorted(nearest), axis=0)
    limits = true_distances(live, queries, "euclidean")[:, 9:10]
    assert (limits > limits_before).any()
    curve = manifest.recall
    for level, rerank in [(0, 20), (1, 100)]:
        manifest, point = with_only(index, manifest, curve, level, rerank)
        share = share_of_hits(index, queries, limits, 10)
        assert point.recall["10"] == pytest.approx(share, abs=1e-12)


def by_hand() -> tuple[SampleQueries, list[ShardEvidence]]:
    """Return one sample with neighbours at 1, 2, 2 and 3, and two shards that gather some of them.

    Nearest in the reduced spaces: 2 (b0), 3 (a0), 9 (a1), 1 (b1; at the second level only).
    """
    distances = np.full((1, MAX_NEIGHBOURS), np.inf)
    distances[0, :4] = [1.0, 2.0, 2.0, 3.0]
    keys = np.zeros((1, MAX_NEIGHBOURS), np.uint64)
    neighbours = Neighbours(keys, distances, np.array([np.inf]))
    samples = SampleQueries(("s",), np.zeros((1, 2), np.float32), neighbours)

    def shard(number, reduced, exact, first) -> ShardEvidence:
        evidence = Evidence(
            samples=sample_keys(["s"]),
            starts=np.array([0, len(exact)]),
            rows=np.arange(len(exact), dtype=np.uint32),
            reduced=np.array(reduced, np.float32),
            exact=np.array(exact),
            first=np.array(first, np.uint8),
            seconds=np.array([0.001, 0.003]),
            row_seconds=np.array([1e-6]),
        )
        entry = ShardEntry(
            number=number, rows=40, seed=0, max_norm=0.0, files={}, search_k=(10, 20)
        )
        return ShardEvidence(entry, evidence, None)

    return samples, [
        shard(0, [0.2, 0.3], [3.0, 9.0], [0, 0]),
        shard(1, [0.1, 0.4], [2.0, 1.0], [0, 1]),
    ]


def recall_by_hand(rerank: int, shards: list[ShardEvidence], monkeypatch) -> list[dict]:
    samples, _ = by_hand()
    monkeypatch.setattr("pool3.index.recall.estimate.RERANKS", (rerank,))
    monkeypatch.setattr("pool3.index.recall.estimate.MEASURED_KS", (1, 2, 10))
    return [dict(p.recall) for p in measure(samples, shards, metric="euclidean", n_trees=5).points]


def test_hits_are_counted_by_distance(monkeypatch):
    _, shards = by_hand()
    # With 3 re-ranked: 2, 3 and 9; not the nearest, one of the two nearest, and two of four.
    # At the second level 1 is gathered, and is fourth.
    assert recall_by_hand(3, shards, monkeypatch) == [{"1": 0, "2": 0.5}, {"1": 0, "2": 0.5}]
    low, high = recall_by_hand(10, shards, monkeypatch)
    assert low == {"1": 0, "2": 0.5, "10": 0.5}
    assert high == {"1": 1, "2": 1, "10": 0.75}
    # The row at 2 is deleted: what was third in the reduced space moves up.
    remaining = [shards[0], shards[1]._replace(live=np.arange(40) > 0)]
    assert recall_by_hand(3, remaining, monkeypatch)[1] == {"1": 1, "2": 0.5}


def test_time_and_entries_add_up_over_shards():
    samples, shards = by_hand()
    points = measure(samples, shards, metric="euclidean", n_trees=5).points
    deep = [point for point in points if point.rerank == 50]
    assert [point.search_k for point in deep] == [20, 40]
    assert [point.ms for point in deep] == pytest.approx([2.05, 6.05])


def test_under_dot_shards_merge_by_the_inner_product(monkeypatch):
    samples, (first, second) = by_hand()
    # distance^2 = |q|^2 + M^2 - 2 q.x: the second shard's rows have much larger products.
    longer = second._replace(entry=replace(second.entry, max_norm=2.0))
    far = replace(second.evidence, reduced=np.array([1.9, 2.0], np.float32))
    monkeypatch.setattr("pool3.index.recall.estimate.RERANKS", (2,))
    shards = [first, longer._replace(evidence=far)]
    assert measure(samples, shards, metric="dot", n_trees=5).points[1].recall["1"] == 1
    assert measure(samples, shards, metric="euclidean", n_trees=5).points[1].recall["1"] == 0


def test_evidence_of_other_samples_is_refused():
    samples, shards = by_hand()
    other = replace(samples, ids=("t",))
    with pytest.raises(InvalidIndex, match="shard 0 must hold all samples"):
        measure(other, shards, metric="euclidean", n_trees=5)
    with pytest.raises(InvalidIndex, match="expected the evidence of a shard; found another file"):
        Evidence.from_bytes(b"nothing")
    torn = replace(shards[0].evidence, exact=np.zeros(5))
    with pytest.raises(InvalidIndex, match="differ in length"):
        Evidence.from_bytes(torn.to_bytes())


def test_levels_and_their_shares():
    for rows in (1, 7, 1000, 10**7):
        grid = levels(rows, 50)
        assert list(grid) == sorted(set(grid))
        assert grid[-1] == min(rows * 50, 64_000)
    shards = [
        ShardEntry(number=at, rows=rows, seed=0, max_norm=0, files={})
        for at, rows in enumerate((70, 0, 30))
    ]
    totals = levels(100, 10)
    divided = [replace(shard, search_k=shard_search_k(totals, shard.rows, 100)) for shard in shards]
    assert divided[0].search_k == (175, 350, 700)
    # A shard that is added later gets as many entries a row as the others.
    assert added_search_k(divided, 10) == (25, 50, 100)
    assert added_search_k(divided, 1) == (3, 5, 10)


def test_shards_with_evidence_keep_their_levels(make_index):
    _, _, manifest = measured_index(make_index, "euclidean", own=True, n_rows=100)
    grown = replace(manifest.shards[0], number=3, files={}, search_k=(), rows=50)
    later = with_levels(replace(manifest, shards=(*manifest.shards, grown)), remeasure=False)
    assert later.shards[:3] == manifest.shards
    assert later.shards[3].search_k == tuple(
        -(-50 * sum(level) // 100)
        for level in zip(*(shard.search_k for shard in manifest.shards), strict=True)
    )
    fresh = with_levels(manifest, remeasure=True)
    assert all(EVIDENCE not in shard.files for shard in fresh.shards)


def test_a_curve_without_anything_to_measure():
    nothing = Neighbours(
        np.zeros((1, MAX_NEIGHBOURS), np.uint64),
        np.full((1, MAX_NEIGHBOURS), np.inf),
        np.array([np.inf]),
    )
    samples = SampleQueries(("s",), np.zeros((1, 2), np.float32), nothing)
    _, shards = by_hand()
    curve = measure(samples, shards, metric="euclidean", n_trees=5)
    assert all(point.recall == {} for point in curve.points)
    assert curve.cheapest(1, 0.5) is None


def test_a_plot_is_one_call(tmp_path):
    pytest.importorskip("matplotlib")
    from pool3.index.recall.plot import plot_recall

    points = tuple(
        RecallPoint(
            level=0,
            search_k=10,
            rerank=rerank,
            ms=rerank / 100,
            recall={"1": 1 - 1 / rerank},
            low={"1": 1 - 2 / rerank},
        )
        for rerank in RERANKS
    )
    figure = plot_recall(RecallCurve(samples=7, rows=1234, points=points), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["recall@1"]
    assert axes.get_title() == "7 sample queries over 1,234 rows"
    with pytest.raises(pool3.errors.UsageError, match="cannot be saved as"):
        plot_recall(RecallCurve(samples=7, rows=1234, points=points), tmp_path / "plot.docx")


def test_any_of_many_equal_pictures_is_a_hit(make_index):
    rows = np.repeat(clustered(2, 1), 1500, axis=0)
    index = make_index(rows, n_trees=N_TREES)
    snapshot = open_snapshot(index)
    ids = [f"id{row:06d}" for row in (0, 1600)]
    manifest = with_recall(snapshot, ids, rows[[0, 1600]])
    for point in manifest.recall.points:
        assert set(point.recall.values()) == {1.0}


def test_levels_that_bring_nothing_new_are_tried_with_few(make_index, monkeypatch):
    # So few rows would be measured from the third level on, and nothing be new after it.
    monkeypatch.setattr("pool3.index.shards.tree._ROWS_AN_ENTRY", 0)
    index, _, whole = measured_index(make_index, "euclidean", own=True)
    evidence_of_all = stored_evidence(index, whole)
    monkeypatch.setattr("pool3.index.recall.collect._PILOT_SAMPLES", 4)
    monkeypatch.setattr("pool3.index.recall.collect._MIN_GAIN", 0.2)
    index, _, manifest = measured_index(make_index, "euclidean", own=True)
    evidence_of_some = stored_evidence(index, manifest)
    for (_, full), (_, short) in zip(evidence_of_all, evidence_of_some, strict=True):
        deepest = [
            int(short.first[start:end].max())
            for start, end in zip(short.starts, short.starts[1:], strict=False)
        ]
        assert max(deepest[4:]) < max(deepest[:4]) <= full.first.max()
        assert (short.seconds > 0).all()
        assert len(short.rows) < len(full.rows)
    for point, other in zip(manifest.recall.points, whole.recall.points, strict=True):
        assert other.recall["10"] - 0.2 < point.recall["10"] <= other.recall["10"]


def test_real_queries_find_what_is_promised(make_index, shared_data):
    folder = shared_data / "vectors_bigann10k"
    rows = np.load(folder / "base_u8.npy").astype(np.float32)
    queries = np.load(folder / "query_u8.npy").astype(np.float32)
    index = make_index(rows, metric="euclidean", n_shards=2, n_trees=10)
    picker = SamplePicker(rows.shape[1], limit=200)
    picker.add([f"id{row:06d}" for row in range(len(rows))], rows)
    snapshot = open_snapshot(index)
    curve = write_next(index, with_recall(snapshot, *picker.picked())).recall
    nearest = np.load(folder / "gt100_l2_u64.npy").astype(np.int64)
    opened = pool3.open(index)
    for k, recall in [(1, 0.95), (10, 0.9), (10, 0.95), (100, 0.9)]:
        promised = curve.cheapest(k, recall).low_at(k)
        assert promised >= recall
        _, measured = opened.search_batch(queries, k=k, recall=recall)
        last = rows[nearest[:, k - 1]].astype(np.float64) - queries
        limits = np.sqrt(np.vecdot(last, last))[:, None]
        # Of 100 other queries, which have an error of their own.
        assert (measured <= limits * (1 + 1e-9)).mean() > promised - 0.02
