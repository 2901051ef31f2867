"""Rows are assigned to shards by id alone, and a built shard has exactly its rows."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from pool3.index.format.entries import ShardEntry
from pool3.index.format.json_fields import Fields
from pool3.index.shards.reader import ShardReader
from pool3.index.snapshots.snapshot import Snapshot
from tests.pool3.features.small_tables import put, row, write_part
from tests.small_index import build_index
from tests.udfs.arrow import Broadcast, file_batches, grouped, rows, shard_batches, summaries
from tests.udfs.conftest import LABELS, URIS
from tests.udfs.small_data import DIMENSION, SmallIndex, digest
from udfs.shards import ShardSettings, assign_rows, assign_stored, build_shard, row_schema, shard_of

CARRIED = pa.schema([("uri", pa.string()), ("width", pa.int32())])


def test_usable_rows_of_a_table_are_assigned_by_id(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    written = [row(f"é {number}", width=number) for number in range(40)]
    others = [row("x", status="failed", error="empty", features=None), row("y", features=[1.0])]
    table = put(uri, [write_part(uri, written[:25] + others), write_part(uri, written[25:])])
    function = assign_rows(table, carried=CARRIED, dimension=2, metric="euclidean", n_shards=7)
    result = rows(function, file_batches(table.files), row_schema(CARRIED))
    assert len(result) == len(written)
    by_id = {entry["image_id"]: entry for entry in result}
    for source in written:
        entry = by_id[source["image_id"]]
        assert entry["_shard"] == zlib.crc32(source["image_id"].encode()) % 7
        assert np.frombuffer(entry["_vector"], "<f4").tolist() == source["features"]
        assert (entry["_c0"], entry["_c1"]) == (source["uri"], source["width"])
        assert entry["_digest"] is None


def shards_by_id(index: SmallIndex, n_shards: int | None) -> dict[str, int]:
    return {
        name: index.place(name)[0] if n_shards is None else shard_of(name, n_shards)
        for name in index.live_ids()
    }


@pytest.mark.parametrize("n_shards", [None, 5])
def test_live_rows_of_shards_with_their_digests_and_metadata(
    euclidean_index: SmallIndex, n_shards: int | None
) -> None:
    index = euclidean_index
    carried = pa.schema([("label", pa.string()), ("new", pa.int64()), ("uri", pa.string())])
    left_out = {index.ids[2], index.ids[3], index.ids[0], "no such id"}
    function = assign_stored(str(index.directory), carried, n_shards, Broadcast(left_out))
    batches = shard_batches(grouped(index.directory).value)
    result = rows(function, batches, row_schema(carried))
    expected = shards_by_id(index, n_shards)
    assert {entry["image_id"]: entry["_shard"] for entry in result} == {
        name: shard for name, shard in expected.items() if name not in left_out
    }
    assert len(result) == len(expected) - 2  # one of those left out has a tombstone
    for entry in result:
        number = index.ids.index(entry["image_id"])
        np.testing.assert_array_equal(np.frombuffer(entry["_vector"], "<f4"), index.vectors[number])
        assert entry["_digest"] == digest(index.vectors[number])
        assert (entry["_c0"], entry["_c1"], entry["_c2"]) == (LABELS[number], None, URIS[number])


def assigned(vectors: np.ndarray, number: int) -> pa.RecordBatch:
    count = len(vectors)
    columns = {
        "_shard": pa.array([number] * count, pa.int32()),
        "image_id": pa.array([f"{at:03d}" for at in range(count)], pa.string()),
        "_vector": pa.array([vector.astype("<f4").tobytes() for vector in vectors], pa.binary()),
        "_digest": pa.nulls(count, pa.int64()),
        "_c0": pa.array([f"/u/{at}" for at in range(count)], pa.string()),
        "_c1": pa.array(range(count), pa.int32()),
    }
    schema = to_arrow_schema(row_schema(CARRIED))
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], names=schema.names)


def built(
    index: SmallIndex, batch: pa.RecordBatch, size: int, **others: object
) -> tuple[ShardEntry, dict[str, float]]:
    """Build a shard from batches of `size` rows."""
    snapshot = grouped(index.directory).value.snapshot
    settings = ShardSettings.like(snapshot, added_in=9, carried=CARRIED)
    settings = replace(settings, **others)  # type: ignore[arg-type]
    batches = [batch.slice(0, 0), *(batch.slice(at, size) for at in range(0, len(batch), size))]
    (task,) = summaries(build_shard(settings, Broadcast(snapshot.reduction)), batches)
    return ShardEntry.read(Fields(task.pop("entry"), "test")), task


def test_a_shard_has_the_rows_of_its_partition(euclidean_index: SmallIndex) -> None:
    vectors = np.random.default_rng(2).integers(-9, 9, (70, DIMENSION)).astype(np.float32)
    entry, task = built(euclidean_index, assigned(vectors, 2), size=23, first_number=3)
    assert (entry.number, entry.rows, entry.added_in, entry.dead) == (5, 70, 9, 0)
    assert task == {"explained": 0.0, "variance": 0.0}
    base = grouped(euclidean_index.directory).value.snapshot
    manifest = replace(base.manifest, shards=(entry,))
    reader = ShardReader(Snapshot.of(base.uri, manifest, base.reduction).shard(0))
    np.testing.assert_array_equal(reader.vectors, vectors)
    assert [reader.ids.image_id(at) for at in range(70)] == [f"{at:03d}" for at in range(70)]
    assert reader.metadata is not None
    table = reader.metadata.table()
    assert table.to_pydict() == {"uri": [f"/u/{at}" for at in range(70)], "width": list(range(70))}
    digests = reader.ids.table()["digest"].to_numpy().view(np.int64).tolist()
    assert digests == [digest(vector) for vector in vectors]


def test_trees_and_vectors_do_not_depend_on_batches(euclidean_index: SmallIndex) -> None:
    vectors = np.random.default_rng(3).normal(size=(90, DIMENSION)).astype(np.float32)
    first, second = (built(euclidean_index, assigned(vectors, 0), size)[0] for size in (7, 90))
    for kind in ("tree", "vectors"):
        assert first.files[kind].sha256 == second.files[kind].sha256
    other, _ = built(euclidean_index, assigned(vectors, 1), 90)
    assert other.files["tree"].sha256 != first.files["tree"].sha256  # of another seed


def test_digests_that_are_given_are_stored(euclidean_index: SmallIndex) -> None:
    """Rows of another shard are rounded, and keep the digest of the vector in the table."""
    vectors = np.ones((4, DIMENSION), np.float32)
    batch = assigned(vectors, 0)
    batch = batch.set_column(3, "_digest", pa.array([1, -1, 1 << 62, 0], pa.int64()))
    entry, _ = built(euclidean_index, batch, size=3)
    base = grouped(euclidean_index.directory).value.snapshot
    manifest = replace(base.manifest, shards=(entry,))
    reader = ShardReader(Snapshot.of(base.uri, manifest, base.reduction).shard(0))
    digests = reader.ids.table()["digest"].to_numpy().view(np.int64).tolist()
    assert digests == [1, -1, 1 << 62, 0]


def test_how_much_variance_of_unseen_rows_is_explained(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    seen = random.normal(size=(300, 200)) * np.geomspace(1, 0.01, 200)
    snapshot = grouped(build_index(tmp_path / "index", seen, metric="euclidean")).value.snapshot
    settings = ShardSettings.like(snapshot, added_in=9, carried=CARRIED)
    unseen = (random.normal(size=(60, 200)) + 0.1).astype(np.float32)
    for unknown, expected in ((True, variances(seen, unseen)), (False, (0.0, 0.0))):
        function = build_shard(replace(settings, unseen=unknown), Broadcast(snapshot.reduction))
        batch = assigned(unseen, 0)
        (task,) = summaries(function, [batch.slice(at, 11) for at in range(0, 60, 11)])
        assert (task["explained"], task["variance"]) == pytest.approx(expected, rel=1e-3)
    assert 0 < variances(seen, unseen)[0] < variances(seen, unseen)[1]


def variances(seen: np.ndarray, unseen: np.ndarray) -> tuple[float, float]:
    """Return the variance of rows about the mean of others along their 128 main axes, and all."""
    centred = unseen - seen.mean(axis=0)
    axes = np.linalg.svd(seen - seen.mean(axis=0), full_matrices=False)[2][:128]
    return float(((centred @ axes.T) ** 2).sum()), float((centred**2).sum())


def test_without_rows_no_shard_is_built(euclidean_index: SmallIndex) -> None:
    snapshot = grouped(euclidean_index.directory).value.snapshot
    settings = ShardSettings.like(snapshot, added_in=9, carried=CARRIED)
    function = build_shard(settings, Broadcast(snapshot.reduction))
    empty = assigned(np.zeros((0, DIMENSION), np.float32), 0)
    assert summaries(function, [empty, empty]) == summaries(function, []) == []
