"""A staged listing has each picture once, whatever its length, and no files of tables."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest

from pool3 import storage
from pool3.errors import UsageError
from pool3.inputs import InputOptions
from pool3.inputs.listed import StagedListing, read_listing, stage_listing


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def rows_of(staged: StagedListing) -> list[dict[str, object]]:
    return [
        row for file in staged.files for batch in read_listing(file) for row in batch.to_pylist()
    ]


@pytest.mark.parametrize("rows_per_file", [1, 3, 7, 100])
def test_each_picture_is_listed_once_in_files_of_a_limited_length(
    tmp_path: Path, rows_per_file: int
) -> None:
    first = fill(tmp_path / "b", *(f"{n}.jpg" for n in range(10)), "_SUCCESS", ".x")
    second = fill(tmp_path / "a", "line\nfeed.jpg", "100%.jpg", "sub/c#.jpg")
    options = InputOptions(inputs=(str(first), str(second)), id_from=f"relative:{tmp_path}")
    staged = stage_listing(options, str(tmp_path / "staging"), rows_per_file=rows_per_file)
    rows = rows_of(staged)
    assert len(staged.files) == -(-13 // rows_per_file)
    assert [row["position"] for row in rows] == list(range(13))
    names = ["line\nfeed.jpg", "100%.jpg", "sub/c#.jpg"]
    assert {row["image_id"] for row in rows[:10]} == {f"b/{n}.jpg" for n in range(10)}
    assert {row["image_id"] for row in rows[10:]} == {f"a/{name}" for name in names}
    assert all(row["uri"] == f"{tmp_path}/{row['image_id']}" for row in rows)
    for row in rows:
        path = Path(str(row["uri"]))
        assert row["size"] == path.stat().st_size
        assert row["modified_at"].timestamp() == pytest.approx(path.stat().st_mtime, abs=1e-5)
        assert row["refused"] is None
    assert staged.set_aside == {"bookkeeping": 1, "dot_name": 1}


@pytest.mark.parametrize("rows_per_file", [1, 2, 100])
@pytest.mark.parametrize(
    "log", ["_delta_log/0", ".hoodie/x", "metadata/1.metadata.json", "_pool3/x"]
)
def test_a_table_below_the_folder_is_left_out_even_if_its_log_is_listed_last(
    tmp_path: Path, rows_per_file: int, log: str
) -> None:
    folder = fill(tmp_path / "lake", "a.jpg", "t/0.parquet", f"t/{log}", "t/z/1.parquet", "z.jpg")
    options = InputOptions(inputs=(str(folder),), id_from=f"relative:{folder}")
    staged = stage_listing(options, str(tmp_path / "staging"), rows_per_file=rows_per_file)
    assert sorted(str(row["image_id"]) for row in rows_of(staged)) == ["a.jpg", "z.jpg"]
    assert staged.set_aside["table"] >= 2


def test_an_input_without_pictures_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    full, empty = fill(tmp_path / "full", "a.jpg"), tmp_path / "empty"
    empty.mkdir()
    only_table = fill(tmp_path / "lake", "t/0.parquet", "t/_delta_log/0.json")
    loose = fill(tmp_path / "loose", "inputs.parquet") / "inputs.parquet"
    for where, message in (
        (empty, "found none"),
        (tmp_path / "nowhere", "nothing at"),
        (only_table, "set aside as table"),
        (only_table / "t", "Delta table"),
        (loose, "--uri-column"),
    ):
        inputs = (str(where),) if where == only_table else (str(full), str(where))
        with pytest.raises(UsageError, match=message):
            stage_listing(InputOptions(inputs=inputs), str(tmp_path / "staging"))
    assert not (tmp_path / "staging").exists()


def test_a_bucket_is_listed_with_its_etags(s3_bucket: str) -> None:
    storage.put(f"{s3_bucket}/photos/a%20b#.jpg", b"abc")
    storage.put(f"{s3_bucket}/features/_delta_log/0.json", b"{}")
    storage.put(f"{s3_bucket}/features/0.parquet", b"x")
    staged = stage_listing(InputOptions(inputs=(s3_bucket,)), f"{s3_bucket}/features/_pool3/run")
    (row,) = rows_of(staged)
    assert row["uri"] == row["image_id"] == f"{s3_bucket}/photos/a%20b#.jpg"
    assert row["etag"] == "900150983cd24fb0d6963f7d28e17f72"
    assert row["size"] == 3


def test_keys_that_cannot_be_fetched_are_rows_with_the_reason(s3_bucket: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1"
    )
    keys = ["p/a.jpg", "p/a//b.jpg", "p/./c.jpg", "p/t\tab.jpg", "p/what?#.jpg", "p/.hidden"]
    for key in keys:
        client.put_object(Bucket=storage.name_of(s3_bucket), Key=key, Body=b"x")
    where = s3_bucket.replace("s3:", "s3a:") + "/p"
    options = InputOptions(inputs=(where,), id_from=f"relative:{where}")
    staged = stage_listing(options, f"{s3_bucket}/staging")
    rows = {row["uri"]: row for row in rows_of(staged)}
    assert set(rows) == {f"{s3_bucket}/{key}" for key in keys[:-1]}
    assert staged.set_aside == {"dot_name": 1}
    reasons = {uri.removeprefix(f"{s3_bucket}/p/"): row["refused"] for uri, row in rows.items()}
    assert {name for name, reason in reasons.items() if reason} == {"a//b.jpg", "./c.jpg"}
    assert "an empty, '.' or '..' segment" in str(reasons["a//b.jpg"])
    assert [row["image_id"] for row in rows.values()] == list(reasons)
