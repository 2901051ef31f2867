"""Delta tables in a bucket, under odd roots, at a version, and as the target of a commit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.errors import StorageError, UsageError
from pool3.features.table import delta_table
from pool3.storage.delta_protocol import count_deleted, pack_mask, path_in_table, unpack_mask
from pool3.storage.result_table import result_version
from pool3.storage.tables import commit, open_table, table_files
from tests.conftest import upload
from tests.delta_tables import add_action, inline_vector, protocol, stored_vector, write_log

ROWS = pa.table({"image_id": ["a", "b", "c"], "label": ["x", "y", "z"]})
MORE = pa.table({"image_id": ["d", "e", "f"], "label": ["x", "y", "z"]})
FEATURES = protocol("deletionVectors")


def ids(uri: str) -> list[str]:
    table = delta_table(uri)
    assert table is not None
    return [
        image_id
        for file in table.files
        for batch in table.read(file, ["image_id"])
        for image_id in batch.column(0).to_pylist()
    ]


def two_files(folder: Path) -> str:
    """A table whose files have deletion vectors, and one path that ends as another does."""
    actions = [
        add_action(folder, ROWS, "part.parquet", vector=inline_vector([0])),
        add_action(folder, MORE, f"{folder.name}/part.parquet", vector=stored_vector([1, 2])),
    ]
    return write_log(folder, ROWS.schema, actions, table_protocol=FEATURES)


def test_each_file_has_its_own_deletion_vector(tmp_path: Path) -> None:
    assert ids(two_files(tmp_path / "t")) == ["b", "c", "d"]


def test_a_root_reached_by_a_link_is_the_same_table(tmp_path: Path) -> None:
    two_files(tmp_path / "t")
    (tmp_path / "100% link").symlink_to(tmp_path / "t")
    assert ids(str(tmp_path / "100% link")) == ["b", "c", "d"]


@pytest.mark.parametrize(
    "key", ["lake/t", "a b/t", "50%/t", "a+b/t", "what?/t", "n#1/t", "über/t", "a&b;c=[d]/t"]
)
def test_a_table_in_a_bucket_has_its_deletion_vectors(
    s3_bucket: str, tmp_path: Path, key: str
) -> None:
    two_files(tmp_path / "t")
    upload(tmp_path / "t", f"{s3_bucket}/{key}")
    assert ids(f"{s3_bucket}/{key}") == ["b", "c", "d"]


@pytest.mark.parametrize("key", ["lake/t", "a b/t"])
def test_a_missing_deletion_vector_of_a_bucket_is_named(
    s3_bucket: str, tmp_path: Path, key: str
) -> None:
    action = add_action(tmp_path / "t", ROWS, vector=stored_vector([1], missing=True))
    write_log(tmp_path / "t", ROWS.schema, [action], table_protocol=FEATURES)
    upload(tmp_path / "t", f"{s3_bucket}/{key}")
    with pytest.raises(StorageError, match=r"deletion vectors of the table .* cannot be read"):
        ids(f"{s3_bucket}/{key}")


def test_rows_are_those_that_are_not_deleted(tmp_path: Path) -> None:
    table = open_table(two_files(tmp_path / "t"))
    assert table is not None
    rows = {file.path: file.rows for file in table_files(table, str(tmp_path / "t"))}
    assert rows == {"part.parquet": 2, "t/part.parquet": 1}


@given(st.lists(st.booleans(), max_size=70), st.integers(0, 9))
def test_masks_are_packed_without_loss(mask: list[bool], more: int) -> None:
    packed = pack_mask(np.array(mask, dtype=np.bool_))
    assert unpack_mask(packed, len(mask) + more).tolist() == [*mask, *[False] * more]
    assert count_deleted(packed) == sum(mask)


@pytest.mark.parametrize(
    ("uri", "logged", "path"),
    [
        ("/lake/t", "a%20b%25.parquet", "a b%.parquet"),
        ("/lake/t", "file:/lake/t/x.parquet", "x.parquet"),
        ("/lake/t", "file:///lake/t/d=1/x.parquet", "d=1/x.parquet"),
        ("/lake/t", "/lake/t/x.parquet", "x.parquet"),
        ("s3://lake/t", "s3a://lake/t/x.parquet", "x.parquet"),
        ("/lake/t", "file:/lake/t2/x.parquet", None),
        ("/lake/t", "/lake/t/../u/x.parquet", None),
        ("/lake/t", "%2E%2E/u/x.parquet", None),
        ("s3://lake/t", "s3://other/t/x.parquet", None),
        ("/lake/t", "abfss://c@a.dfs.core.windows.net/x.parquet", None),
    ],
)
def test_paths_of_a_log(uri: str, logged: str, path: str | None) -> None:
    if path is not None:
        assert path_in_table(uri, logged) == path
    else:
        with pytest.raises(UsageError, match="DEEP CLONE"):
            path_in_table(uri, logged)


def test_files_with_deletion_vectors_are_never_replaced(tmp_path: Path) -> None:
    uri = two_files(tmp_path / "t")
    table = open_table(uri)
    assert table is not None
    with pytest.raises(UsageError, match="PURGE"):
        result_version(uri, ROWS.schema)
    with pytest.raises(UsageError, match="PURGE"):
        commit(
            uri,
            schema=ROWS.schema,
            added=[],
            removed=table_files(table, uri),
            read_version=0,
            run_id="r",
            custom_metadata={},
        )
    assert ids(uri) == ["b", "c", "d"]
