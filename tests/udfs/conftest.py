"""Indexes that tests of executor functions read."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.udfs.small_data import ROWS, SmallIndex, small_index

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
