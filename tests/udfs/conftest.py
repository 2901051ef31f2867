"""What tests of executor functions share: indexes, and the settings of an extraction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pool3.features.schema import FEATURE_SCHEMA
from pool3.images.decode import DecodeLimits
from tests.jobs.colour_model import SIDE, colour_graph
from tests.udfs.small_data import ROWS, SmallIndex, small_index
from udfs import extract
from udfs.extract import ExtractSettings

LABELS = [None if number % 5 == 4 else f"label {number % 3}" for number in range(ROWS)]
URIS = [f"/lake/{number:04d}.jpg" for number in range(ROWS)]


@pytest.fixture(scope="session")
def euclidean_index(tmp_path_factory: pytest.TempPathFactory) -> SmallIndex:
    """An index with tombstones and metadata: uri, label, and digests of which each is there twice.

    The digest is null in every seventh row.
    """
    digests = [None if number % 7 == 6 else f"sha-{number // 2:03d}" for number in range(ROWS)]
    metadata = pa.table({"uri": URIS, "label": LABELS, "content_sha256": digests})
    return small_index(tmp_path_factory.mktemp("euclidean"), metadata=metadata)


@pytest.fixture(scope="session", params=["angular", "euclidean", "dot"])
def any_index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> SmallIndex:
    """An index of each metric, with tombstones and without metadata."""
    return small_index(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def task_settings(tmp_path: Path) -> Iterator[ExtractSettings]:
    """Settings of a task with the model of mean colours; its decoders are closed in the end."""
    yield ExtractSettings(
        table_uri=str(tmp_path / "table"),
        run_id="run",
        model_id="m",
        graph_sha256=hashlib.sha256(colour_graph()).hexdigest(),
        dimension=3,
        schema=FEATURE_SCHEMA,
        input_size=SIDE,
        resize="pil-bilinear",
        colour="srgb",
        engine="auto",
        precision="float32",
        threads=1,
        gpu=False,
        batch_size=4,
        limits=DecodeLimits(),
        thumbnail_side=None,
        decode_function="pool3.images.decode:decode_resized",
        timeout_s=30.0,
    )
    for pool in extract._decoders.values():
        pool.close()
    extract._decoders.clear()
