from __future__ import annotations

import hashlib
import json
import logging

import numpy as np
import pyarrow as pa
import pytest

import pool3
import pool3.search.pictures
from pool3.errors import InvalidIndex, StorageError, UsageError
from tests.conftest import upload


def vectors_of(n_rows: int, dimension: int) -> np.ndarray:
    return np.random.default_rng(n_rows).normal(size=(n_rows, dimension)).astype(np.float32)


def test_a_reader_keeps_its_snapshot(make_index):
    directory = make_index(np.eye(3))
    before = pool3.open(directory)
    make_index(np.eye(3) * 2, into=directory, ids=["x", "y", "z"], metric="euclidean")
    assert before.search(np.ones(3), k=9).ids == ["id000000", "id000001", "id000002"]
    assert (before.snapshot_id, pool3.open(directory).snapshot_id) == (1, 2)
    pinned = pool3.open(directory, snapshot=1)
    assert pinned.search(np.ones(3), k=9).snapshot_id == 1
    assert pool3.open(directory).search(np.ones(3)).ids == ["x", "y", "z"]


def test_other_folders_are_refused(tmp_path, make_index):
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InvalidIndex, match="is not an index: no snapshot"):
            pool3.open(directory)
    unpublished = make_index(np.eye(3), published=False)
    with pytest.raises(InvalidIndex, match="was published; the newest is 1"):
        pool3.open(unpublished)
    assert len(pool3.open(unpublished, snapshot=1)) == 3
    for wrong in (0, -1, "1"):
        with pytest.raises(UsageError, match="snapshot must be a whole number of at least 1"):
            pool3.open(unpublished, snapshot=wrong)
    with pytest.raises(InvalidIndex, match="there is no snapshot 7"):
        pool3.open(unpublished, snapshot=7)


@pytest.mark.parametrize("name", ["tree.ann", "vectors.npy", "ids.arrow", "metadata.arrow"])
def test_one_damaged_byte_is_an_error(make_index, name):
    directory = make_index(vectors_of(50, 8), metadata=pa.table({"label": ["a"] * 50}))
    path = next(directory.rglob(name))
    good = path.read_bytes()
    for position in (0, len(good) // 2, len(good) - 1):
        damaged = bytearray(good)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match=f"SHA-256.*{name}"):
            pool3.open(directory)
    path.write_bytes(good[:-7])
    with pytest.raises(StorageError, match=f"expected bytes {len(good)}.*{name}"):
        pool3.open(directory)
    path.unlink()
    with pytest.raises(InvalidIndex, match=f"{name} is missing"):
        pool3.open(directory)


def test_files_that_contradict_the_manifest(make_index):
    """Files may be whole and still be of another index."""
    directory = make_index(vectors_of(50, 8))
    others = {
        "tree": make_index(vectors_of(49, 8)),
        "vectors": make_index(vectors_of(50, 9)),
        "ids": make_index(vectors_of(49, 8)),
    }
    names = {"tree": "tree.ann", "vectors": "vectors.npy", "ids": "ids.arrow"}
    manifest = next(directory.rglob("manifest.json"))
    text = manifest.read_text()
    for kind, other in others.items():
        data = next(other.rglob(names[kind])).read_bytes()
        value = json.loads(text)
        value["shards"][0]["files"][kind] |= {
            "path": f"shards/other/{names[kind]}",
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        path = directory / "shards" / "other" / names[kind]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        manifest.write_text(json.dumps(value))
        with pytest.raises(InvalidIndex, match=rf"{names[kind]} must have .* found"):
            pool3.open(directory)
        path.write_bytes(b"\0" * len(data))
        value["shards"][0]["files"][kind]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(value))
        with pytest.raises(InvalidIndex, match=names[kind]):
            pool3.open(directory)


def test_a_pinned_manifest(make_index):
    directory = make_index(np.eye(3))
    with pytest.raises(InvalidIndex, match="must have the SHA-256"):
        pool3.open(directory, expected_sha256="0" * 64)


def test_the_log_says_how_many_bytes_are_needed(make_index, caplog):
    directory = make_index(vectors_of(50, 200))
    with caplog.at_level(logging.INFO):
        needed = pool3.open(directory).info()["bytes"]
    files = [p for p in directory.rglob("*") if p.is_file() and p.suffix != ".json"]
    assert needed == sum(path.stat().st_size for path in files)
    vectors = next(directory.rglob("vectors.npy")).stat().st_size
    assert f"{needed - vectors} bytes needed, and {vectors} bytes of vectors" in caplog.text
    assert len(pool3.open(directory, cache_max_bytes=99)) == 50  # nothing of it is cached


def test_info_describes_the_index(make_index):
    index = pool3.open(make_index(vectors_of(50, 200), metric="dot", n_shards=2))
    info = index.info()
    assert (info["rows"], info["n_shards"], info["metric"]) == (50, 2, "dot")
    assert (info["dimension"], info["reduced_dimension"]) == (200, 128)
    assert 0 < info["explained_variance"] <= 1
    assert "50 rows, 200 numbers each, dot" in repr(index)
    assert (index.model_id, index.dimension, index.metric) == (None, 200, "dot")


def test_from_a_bucket(make_index, s3_bucket):
    directory = make_index(vectors_of(60, 140), n_shards=2)
    upload(directory, f"{s3_bucket}/index")
    here, there = pool3.open(directory), pool3.open(f"{s3_bucket}/index")
    query = vectors_of(60, 140)[3]
    assert there.search(query).ids == here.search(query).ids
