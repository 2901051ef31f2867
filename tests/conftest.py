"""Fixtures that every part of the test suite shares."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures and vectors, kept beside the repository and never inside it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip("no real pictures in ../shared/data")
    return folder
