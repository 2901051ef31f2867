"""An S3 Inventory is an input like any other table of uris."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3 import storage
from pool3.errors import UsageError
from pool3.inputs.s3_inventory import read_manifest, with_uris
from tests.pool3.inputs.test_tables import read

KEYS = ["photos/a b.jpg", "photos/c+d%20.jpg", "photos/é#.jpg", "elsewhere/x.jpg"]
COLUMNS = "Bucket, Key, IsLatest, Size, LastModifiedDate, ETag"
ROLES = {"size_column": "Size", "etag_column": "ETag", "modified_column": "LastModifiedDate"}


def write_inventory(bucket: str, folder: Path, form: str = "CSV", **changes: Any) -> str:
    """Store an inventory in the layout of S3; returns the uri of its manifest."""
    source = bucket.removeprefix("s3://")
    key = f"inventory/{source}/daily/data/1.{'csv.gz' if form == 'CSV' else 'parquet'}"
    file = folder / "data"
    if form == "CSV":
        rows = [
            ("lake", quote_plus(key, safe="/"), "true", n, f"2026-01-0{n + 1}T00:00:00.000Z", tag)
            for n, (key, tag) in enumerate(zip(KEYS, ("e0", "e1", "e2", "e3"), strict=True))
        ]  # fmt: skip
        rows.append(("lake", "photos/gone.jpg", "true", "", "2026-01-09T00:00:00.000Z", ""))
        lines = [",".join(f'"{field}"' for field in row) for row in rows]
        file.write_bytes(gzip.compress("\n".join(lines).encode()))
    else:
        pq.write_table(pa.table({"bucket": ["lake"] * len(KEYS), "key": KEYS}), file)
    storage.put_file(f"{bucket}/{key}", file)
    manifest = {
        "sourceBucket": "lake",
        "destinationBucket": f"arn:aws:s3:::{source}",
        "fileFormat": form,
        "fileSchema": COLUMNS,
        "files": [{"key": key, "size": file.stat().st_size, "MD5checksum": "0"}],
    }
    place = f"{bucket}/inventory/{source}/daily/2026-01-01T01-00Z/manifest.json"
    storage.put(place, json.dumps({**manifest, **changes}).encode())
    return place


def test_bucket_and_key_become_uris_with_size_etag_and_time(s3_bucket: str, tmp_path: Path) -> None:
    place = write_inventory(s3_bucket, tmp_path)
    rows = read(place, allow_uri=("s3://lake/photos",), **ROLES)
    assert [row["uri"] for row in rows] == [
        f"s3://lake/{key}" for key in [*KEYS, "photos/gone.jpg"]
    ]
    assert [row["size"] for row in rows] == [0, 1, 2, 3, None]
    assert [row["etag"] for row in rows] == ["e0", "e1", "e2", "e3", None]
    assert [row["modified_at"].day for row in rows] == [1, 2, 3, 4, 9]
    refused = [row["refused"] for row in rows]
    assert refused[:3] == [None] * 3
    assert refused[3] == "not below a prefix of --allow-uri"
    assert rows[0]["meta"] == {"Bucket": "lake", "Key": "photos/a+b.jpg", "IsLatest": "true"}


def test_keys_of_parquet_are_as_they_are(s3_bucket: str, tmp_path: Path) -> None:
    place = write_inventory(s3_bucket, tmp_path, "Parquet")
    rows = read(place, allow_uri=("s3://lake",))
    assert [row["uri"] for row in rows] == [f"s3://lake/{key}" for key in KEYS]


def test_unsupported_inventories_are_errors(s3_bucket: str, tmp_path: Path) -> None:
    for change, message in (
        ({"fileFormat": "ORC"}, "CSV or Parquet"),
        ({"fileSchema": "Bucket, Size, A, B, C, D"}, "Bucket and Key"),
        ({"files": []}, "found none"),
    ):
        place = write_inventory(s3_bucket, tmp_path, **change)
        with pytest.raises(UsageError, match=message):
            read(place, allow_uri=("s3://lake",))


def test_another_manifest_is_a_table_of_json_lines(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"uri": "/d/1"}\n{"uri": "/d/2"}\n')
    assert read_manifest(str(tmp_path / "manifest.json")) is None
    assert [row["uri"] for row in read(tmp_path / "manifest.json")] == ["/d/1", "/d/2"]


@given(st.lists(st.text(min_size=1)))
def test_every_key_is_decoded(keys: list[str]) -> None:
    escaped = pa.record_batch(
        {
            "Bucket": pa.array(["b"] * len(keys)),
            "Key": pa.array([quote_plus(key) for key in keys], pa.string()),
        }
    )
    uris = with_uris(escaped, escaped=True).column("uri").to_pylist()
    assert uris == [f"s3://b/{key}" for key in keys]
