"""A small model for the jobs of these tests."""

from __future__ import annotations

import pytest

from tests.jobs.colour_model import colour_graph, write_model


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model directory whose features are the three mean colours."""
    return str(write_model(tmp_path_factory.mktemp("model") / "m", colour_graph(), "colours"))
