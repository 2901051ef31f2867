from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from annoy import AnnoyIndex

from pool3.errors import UsageError
from pool3.index.reduction.gram import Gram
from pool3.index.reduction.pca import Reduction, fit
from pool3.index.shards.writer import MAX_SEED, BuiltShard, ShardWriter, shard_seed


def rows_of(n_rows: int, dimension: int = 150) -> np.ndarray:
    return np.random.default_rng(n_rows).normal(size=(n_rows, dimension)).astype(np.float32)


def reduction_of(rows: np.ndarray, metric: str = "euclidean") -> Reduction:
    gram = Gram(metric, rows.shape[1])
    gram.add(rows)
    return fit(gram)


def write(folder: Path, rows: np.ndarray, batch: int, *, seed: int = 1, **options) -> BuiltShard:
    reduction = options.pop("reduction", None) or reduction_of(rows)
    dtype = options.pop("vectors_dtype", "float16")
    with ShardWriter(
        folder, reduction=reduction, n_trees=3, seed=seed, vectors_dtype=dtype
    ) as writer:
        for start in range(0, len(rows), batch):
            block = rows[start : start + batch]
            ids = [f"id{start + i:05d}" for i in range(len(block))]
            metadata = pa.record_batch({"label": pa.array(ids), "at": pa.array(range(len(ids)))})
            writer.append(ids, block, metadata)
        return writer.close()


def digests(built: BuiltShard) -> dict[str, str]:
    return {
        kind: hashlib.sha256(path.read_bytes()).hexdigest() for kind, path in built.files.items()
    }


@pytest.mark.parametrize("metric", ["angular", "euclidean", "dot"])
def test_the_same_rows_give_the_same_bytes(tmp_path, metric):
    rows = np.concatenate([rows_of(3000), np.ones((200, 150), dtype=np.float32)])
    reduction = reduction_of(rows, metric)
    by_batch = [
        digests(write(tmp_path / str(batch), rows, batch, reduction=reduction))
        for batch in (3200, 1000, 1)
    ]
    again = digests(write(tmp_path / "again", rows, 1000, reduction=reduction))
    assert again == by_batch[1]
    # Trees and vectors do not even depend on the batches.
    assert len({(files["tree"], files["vectors"]) for files in by_batch}) == 1
    other = digests(write(tmp_path / "seed", rows, 1000, reduction=reduction, seed=2))
    assert other["tree"] != again["tree"]
    assert other["vectors"] == again["vectors"]


def test_rows_of_all_files_belong_together(tmp_path):
    rows = rows_of(2500)
    built = write(tmp_path / "shard", rows, 300)
    assert (built.rows, built.seed) == (2500, 1)
    assert {path.parent for path in built.files.values()} == {tmp_path / "shard"}
    assert set((tmp_path / "shard").iterdir()) == set(built.files.values())
    np.testing.assert_array_equal(np.load(built.files["vectors"]), rows.astype(np.float16))
    ids = pa.ipc.open_file(str(built.files["ids"])).read_all()["image_id"].to_pylist()
    labels = pa.ipc.open_file(str(built.files["metadata"])).read_all()["label"].to_pylist()
    assert ids == labels == [f"id{i:05d}" for i in range(2500)]
    tree = AnnoyIndex(128, "euclidean")
    tree.load(str(built.files["tree"]))
    assert (tree.get_n_items(), tree.get_n_trees()) == (2500, 3)
    reduced = reduction_of(rows).reduce(rows)
    np.testing.assert_allclose(tree.get_item_vector(2400), reduced[2400], atol=1e-4)


def test_under_dot_rows_of_a_tree_are_equally_long(tmp_path):
    rows = rows_of(1500, 4) * np.arange(1, 1501, dtype=np.float32)[:, None]
    built = write(tmp_path, rows, 200, reduction=reduction_of(rows, "dot"), vectors_dtype="float32")
    assert built.max_norm == pytest.approx(np.linalg.norm(rows, axis=1).max(), rel=1e-6)
    tree = AnnoyIndex(5, "euclidean")
    tree.load(str(built.files["tree"]))
    for row in (0, 700, 1499):
        assert np.linalg.norm(tree.get_item_vector(row)) == pytest.approx(built.max_norm, rel=1e-5)


def test_an_empty_shard_has_no_files(tmp_path):
    built = write(tmp_path, rows_of(10)[:0], 5, reduction=reduction_of(rows_of(10)))
    assert (built.rows, built.files, built.max_norm) == (0, {}, 0.0)
    assert list(tmp_path.iterdir()) == []


def test_invalid_rows_are_refused(tmp_path):
    rows = rows_of(4)
    reduction = reduction_of(rows)
    batch = pa.record_batch({"a": [1, 2]})

    def appended(*batches):
        with ShardWriter(
            tmp_path, reduction=reduction, n_trees=1, seed=0, vectors_dtype="float16"
        ) as writer:
            for ids, vectors, metadata in batches:
                writer.append(ids, vectors, metadata)

    with pytest.raises(UsageError, match="must ascend; found 'a' after 'b'"):
        appended((["b", "a"], rows[:2], None))
    with pytest.raises(UsageError, match="must be unique; found 'b' twice"):
        appended((["a", "b"], rows[:2], None), (["b"], rows[:1], None))
    with pytest.raises(UsageError, match="an image_id must be a string; found None"):
        appended((["a", None], rows[:2], None))
    with pytest.raises(UsageError, match=r"shape \(2, 150\); found \(3, 150\)"):
        appended((["a", "b"], rows[:3], None))
    with pytest.raises(UsageError, match="metadata must have 1 rows, as many as ids; found 2"):
        appended((["a"], rows[:1], batch))
    with pytest.raises(UsageError, match="with every batch"):
        appended((["a", "b"], rows[:2], batch), (["c"], rows[:1], None))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_trees": 0}, "n_trees must be at least 1; found 0"),
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": MAX_SEED + 1}, "seed must be from 0"),
    ],
)
def test_arguments_are_checked(tmp_path, wrong, message):
    options = {"n_trees": 1, "seed": 0, "vectors_dtype": "float16", **wrong}
    with pytest.raises(UsageError, match=message):
        ShardWriter(tmp_path, reduction=Reduction("angular", 3), **options)


def test_seeds_of_shards_stay_in_range():
    assert shard_seed(5, 3) == 8
    assert shard_seed(MAX_SEED, 1) == 0
