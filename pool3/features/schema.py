"""The columns of the feature table, which has one row per input picture."""

from __future__ import annotations

import pyarrow as pa

OK, FAILED, GONE = "ok", "failed", "gone"

#: Errors that the same bytes always cause; later runs retry the other errors.
PERMANENT_ERRORS = frozenset(
    {
        "empty",
        "not_an_image",
        "unsupported_format",
        "truncated",
        "corrupt",
        "too_many_pixels",
        "too_large",
        "timeout",
        "decoder_crashed",
    }
)
TRANSIENT_ERRORS = frozenset({"not_found", "denied", "fetch_failed"})

_UTC = pa.timestamp("us", tz="UTC")

FEATURE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok, failed or gone
        pa.field("error", pa.string()),  # null when ok
        pa.field("error_detail", pa.string()),
        pa.field("features", pa.list_(pa.field("element", pa.float32()))),  # null unless ok
        pa.field("width", pa.int32()),  # of the original, after EXIF orientation
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("content_sha256", pa.string()),
        pa.field("content_length", pa.int64()),
        pa.field("etag", pa.string()),  # from the listing
        pa.field("modified_at", _UTC),
        pa.field("thumbnail", pa.binary()),  # JPEG, null without --thumbnails
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("engine", pa.string(), nullable=False),
        pa.field("precision", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("extracted_at", _UTC, nullable=False),
    ]
)


def feature_schema(meta: pa.StructType | None) -> pa.Schema:
    """Return the columns of a table; `meta` is the type of the carried columns of the inputs."""
    return FEATURE_SCHEMA if meta is None else FEATURE_SCHEMA.append(pa.field("meta", meta))
