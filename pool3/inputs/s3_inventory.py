"""S3 Inventory: the listing of a bucket that S3 itself writes, as CSV without a header or Parquet.

Its ``manifest.json`` names the columns and the files. Bucket and key of each row become one more
column, ``uri``, so that a run requests nothing but pictures from the bucket. Whoever can write the
manifest decides which files are read, as with every table of inputs.

Reference: "Amazon S3 inventory" in the user guide of Amazon S3.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa

from pool3 import storage
from pool3.errors import StorageError, UsageError

MANIFEST = "manifest.json"
URI = "uri"
_MOST_BYTES = 64 << 20
_ARN = "arn:aws:s3:::"


def read_manifest(uri: str) -> dict[str, Any] | None:
    """Return the manifest of an inventory, None if `uri` is something else.

    Raises
    ------
    UsageError
        The inventory has a format that is not supported.
    """
    if storage.name_of(uri) != MANIFEST:
        return None
    try:
        manifest = json.loads(storage.fetch(uri, max_bytes=_MOST_BYTES))
    except (StorageError, ValueError):
        return None
    if not isinstance(manifest, dict) or not {"fileFormat", "fileSchema", "files"} <= set(manifest):
        return None
    if manifest["fileFormat"] not in ("CSV", "Parquet"):
        raise UsageError(
            f"expected an inventory as CSV or Parquet, found {manifest['fileFormat']} in {uri}; "
            "configure the inventory for one of these formats"
        )
    return manifest


def inventory_files(manifest: dict[str, Any]) -> list[tuple[str, int]]:
    """Return canonical uri and bytes of each file of an inventory, sorted."""
    bucket = str(manifest["destinationBucket"]).removeprefix(_ARN)
    return sorted(
        (storage.canonical_uri(f"s3://{bucket}/{file['key']}"), int(file["size"]))
        for file in manifest["files"]
    )


def csv_columns(manifest: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the columns of an inventory in CSV, none for one in Parquet."""
    if manifest["fileFormat"] != "CSV":
        return ()
    return tuple(name.strip() for name in manifest["fileSchema"].split(","))


def with_uris(batch: pa.RecordBatch, *, escaped: bool) -> pa.RecordBatch:
    """Return rows of an inventory with their ``uri``.

    Parameters
    ----------
    batch
        Rows with the bucket and the key of each object, under the column names of S3.
    escaped
        Whether keys are URL-encoded, as in CSV, where a space is a ``+``.
    """
    names = {name.lower(): name for name in batch.schema.names}
    if not {"bucket", "key"} <= set(names):
        raise UsageError(
            f"expected columns Bucket and Key in an inventory, found "
            f"{', '.join(batch.schema.names)}; check its manifest.json"
        )
    buckets, keys = (batch.column(names[name]).to_pylist() for name in ("bucket", "key"))
    uris = [
        f"s3://{bucket}/{unquote_plus(key) if escaped else key}"
        for bucket, key in zip(buckets, keys, strict=True)
    ]
    return batch.append_column(URI, pa.array(uris, pa.string()))
