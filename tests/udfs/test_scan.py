"""The first pass: sums, counts and samples do not depend on how files are spread over tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.features.table import FeatureTable, open_features
from pool3.index.recall.picker import sample_key
from tests.pool3.features.small_tables import put, row, write_part
from tests.udfs.arrow import file_batches, rows, summaries
from udfs.scan import ID_SCHEMA, list_ids, merged, scan_files

FILES = 7


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureTable, dict[str, np.ndarray]]:
    """Seven files, each with rows that are not usable; and the vectors of the usable rows."""
    uri = str(tmp_path_factory.mktemp("scan") / "t")
    random = np.random.default_rng(5)
    usable: dict[str, np.ndarray] = {}
    files = []
    for number in range(FILES):
        written = [row(f"{number}-failed", status="failed", error="empty", features=None)]
        written += [row(f"{number}-zero", features=[0.0, 0.0, 0.0])]
        written += [row(f"{number}-short", features=[1.0, 2.0])]
        for at in range(number + 1):
            vector = random.normal(size=3).astype(np.float32)
            usable[f"{number}-{at}"] = vector
            written.append(row(f"{number}-{at}", features=vector.tolist()))
        files.append(write_part(uri, written))
    return put(uri, files), usable


@given(st.lists(st.integers(0, 2), min_size=FILES, max_size=FILES))
def test_any_spread_gives_the_sums_over_all_rows(
    table: tuple[FeatureTable, dict[str, np.ndarray]], owners: list[int]
) -> None:
    features, usable = table
    function = scan_files(features, dimension=3, metric="angular")
    tasks = [
        summaries(function, file_batches([f for f, o in zip(features.files, owners, strict=True)
                                          if o == task]))
        for task in range(3)
    ]  # fmt: skip
    assert [len(task) for task in tasks] == [1, 1, 1]
    scanned = merged([task[0] for task in tasks], metric="angular", dimension=3)
    matrix = np.stack(list(usable.values())).astype(np.float64)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    assert scanned.gram.count == len(usable)
    np.testing.assert_allclose(scanned.gram.total, matrix.sum(axis=0))
    np.testing.assert_allclose(scanned.gram.products, matrix.T @ matrix)
    assert scanned.skipped_rows.skipped == FILES
    assert scanned.skipped_rows.errors == {"zero_vector": FILES, "wrong_length": FILES}
    assert sorted(scanned.skipped_rows.named["zero_vector"]) == [f"{n}-zero" for n in range(FILES)]
    ids, vectors = scanned.picker.picked()
    assert ids == sorted(usable, key=sample_key)
    np.testing.assert_array_equal(vectors, np.stack([usable[image_id] for image_id in ids]))


def test_every_id_is_listed_once(table: tuple[FeatureTable, dict[str, np.ndarray]]) -> None:
    features, usable = table
    listed = rows(list_ids(features), file_batches(features.files), ID_SCHEMA)
    others = {f"{n}-{why}" for n in range(FILES) for why in ("failed", "zero", "short")}
    assert sorted(row["image_id"] for row in listed) == sorted([*usable, *others])


def test_ids_that_are_null_are_left_out(tmp_path: Path) -> None:
    table = pa.table({"image_id": [5, None, 7], "features": [[1.0], [2.0], [3.0]]})
    pq.write_table(table, tmp_path / "a.parquet")
    features = open_features(str(tmp_path))
    listed = rows(list_ids(features), file_batches(features.files), ID_SCHEMA)
    assert [row["image_id"] for row in listed] == ["5", "7"]
