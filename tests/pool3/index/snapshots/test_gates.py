"""A snapshot that lost rows or recall is not for readers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pool3.errors import GateError
from pool3.index.format.manifest import Manifest
from pool3.index.format.recall_curve import RecallCurve, RecallPoint
from pool3.index.snapshots.gates import best_recall, require_not_shrunk, require_recall
from pool3.index.snapshots.publication import read_manifest
from tests.small_index import build_index


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    index = build_index(tmp_path / "index", np.eye(100, 8, dtype=np.float32) + 1)
    points = tuple(
        RecallPoint(
            level=0,
            search_k=10,
            rerank=rerank,
            ms=1.0,
            recall={"1": recall, "10": recall - 0.1},
            low={"1": 0.0, "10": 0.0},
        )
        for rerank, recall in ((20, 0.8), (50, 0.95))
    )
    manifest = read_manifest(str(index), 1)
    return replace(manifest, recall=RecallCurve(samples=10, rows=100, points=points))


def test_the_best_point_counts(manifest: Manifest) -> None:
    assert best_recall(manifest, 10) == pytest.approx(0.85)
    assert best_recall(manifest, 5) == pytest.approx(0.95)
    require_recall(manifest, None)
    require_recall(manifest, 0.85)
    with pytest.raises(GateError, match=r"--min-recall.*0\.8500 at best.*snapshot 1 is staged"):
        require_recall(manifest, 0.86)
    with pytest.raises(GateError, match="none measured"):
        require_recall(replace(manifest, recall=None), 0.5)


def test_a_small_loss_is_let_through(manifest: Manifest) -> None:
    require_not_shrunk(None, manifest, 0.05)
    require_not_shrunk(manifest, replace(manifest, rows=95), 0.05)
    require_not_shrunk(manifest, replace(manifest, rows=0), 1)
    with pytest.raises(GateError, match=r"95\.0% of the 100 rows of snapshot 1, found 94"):
        require_not_shrunk(manifest, replace(manifest, rows=94), 0.05)
