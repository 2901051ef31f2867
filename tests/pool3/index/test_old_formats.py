"""Indexes that earlier releases wrote are still read."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import pool3
from pool3.errors import InvalidIndex
from tests.conftest import REPOSITORY

ARTEFACTS = REPOSITORY / "tests" / "artefacts"


@pytest.fixture
def written_then() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(60, 160)).astype(np.float32)


def test_an_index_of_format_1_is_searched(written_then):
    index = pool3.open(ARTEFACTS / "index-format-1")
    assert (len(index), index.manifest.format_version) == (60, 2)
    for row in range(0, 60, 7):
        hits = index.search(written_then[row], k=3)
        assert hits.ids[0] == f"id{row:06d}"
        assert hits.distances[0] < 1e-6
    assert hits.to_pandas().loc[0, "label"] == "tram"


def test_a_damaged_one_is_named(tmp_path):
    copy = shutil.copytree(ARTEFACTS / "index-format-1", tmp_path / "index")
    manifest = next(copy.glob("snapshots/*/manifest.json"))
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 0'))
    with pytest.raises(InvalidIndex, match="format version 0; this release reads 1 and 2"):
        pool3.open(copy)
