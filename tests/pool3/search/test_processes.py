"""An open index crosses into other processes: pickled, copied, and in closures of Spark."""

from __future__ import annotations

import copy
import hashlib
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark import cloudpickle

import pool3
from pool3.errors import InvalidIndex, StorageError, UsageError
from pool3.search.index import Index
from tests.conftest import upload

ROWS, DIMENSION = 300, 150
VECTORS = np.random.default_rng(5).normal(size=(ROWS, DIMENSION)).astype(np.float32)


@pytest.fixture
def directory(make_index: Callable[..., Path]) -> Path:
    metadata = pa.table({"label": [f"l{row % 3}" for row in range(ROWS)]})
    return make_index(VECTORS, n_shards=3, metadata=metadata)


def answers(index: Index) -> list[Any]:
    """Ask in every way that needs no model."""
    by_vector = index.search(VECTORS[7], k=5, where="label != 'l1'", distinct="label")
    by_id = index.search(image_id="id000009", k=3, exclude_self=True)
    several = index.search([VECTORS[1], VECTORS[2]], k=2)
    ids, distances = index.search_batch(VECTORS[:4], k=3)
    hits = [by_vector, by_id, *several, index.search_id("id000002", k=2)]
    return [[h.ids, h.distances.tolist()] for h in hits] + [ids.tolist(), distances.tolist()]


WAYS: dict[str, Callable[[Index], Index]] = {
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "cloudpickle": lambda index: cloudpickle.loads(cloudpickle.dumps(lambda: index))(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("in_bucket", [False, True])
def test_the_other_index_gives_the_same_answers(
    directory: Path, way: str, in_bucket: bool, request: pytest.FixtureRequest
) -> None:
    where = str(directory)
    if in_bucket:
        where = f"{request.getfixturevalue('s3_bucket')}/index"
        upload(directory, where)
    index = pool3.open(where)
    assert answers(WAYS[way](index)) == answers(index)
    assert len(pickle.dumps(index)) < 1000


def test_the_options_of_opening_come_along(directory: Path) -> None:
    manifest = next(directory.glob("snapshots/*/manifest.json")).read_bytes()
    sha256 = hashlib.sha256(manifest).hexdigest()
    index = pickle.loads(pickle.dumps(pool3.open(directory, expected_sha256=sha256)))
    with pytest.raises(UsageError, match="expected_sha256"):
        index.refresh()


def test_a_snapshot_that_is_gone_is_named(directory: Path) -> None:
    pickled = pickle.dumps(pool3.open(directory))
    next(directory.glob("snapshots/*/manifest.json")).unlink()
    with pytest.raises((InvalidIndex, StorageError), match="snapshot"):
        pickle.loads(pickled)


@pytest.mark.slow  # processes of their own
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_a_pool_take_it(directory: Path, method: str) -> None:
    index = pool3.open(directory)
    with multiprocessing.get_context(method).Pool(1) as pool:
        hits = pool.apply_async(index.search, (VECTORS[7],), {"k": 5}).get(timeout=60)
    assert hits.ids == index.search(VECTORS[7], k=5).ids


def test_a_udf_of_spark_closes_over_it(spark: Any, directory: Path) -> None:
    index = pool3.open(directory)

    def nearest(batches: Any) -> Any:
        for batch in batches:
            ids = [index.search(image_id=image_id, k=2).ids[1] for image_id in batch["image_id"]]
            yield pd.DataFrame({"image_id": batch["image_id"], "nearest": ids})

    rows = spark.createDataFrame([(f"id{row:06d}",) for row in range(6)], "image_id string")
    answered = rows.mapInPandas(nearest, "image_id string, nearest string").collect()
    assert {row.image_id: row.nearest for row in answered} == {
        f"id{row:06d}": index.search(image_id=f"id{row:06d}", k=2).ids[1] for row in range(6)
    }
