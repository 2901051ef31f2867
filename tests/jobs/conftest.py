"""Pictures and a small model for the jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.jobs.colour_model import colour_graph, write_model

NAMES = [
    "_MG_0001.JPG", "a:b.jpg", "\N{SLIGHTLY SMILING FACE}.jpg", "100%.jpg", "a%20b.jpg", "a#b.jpg",
    "two words.jpg", "line\nfeed.jpg", "q?*.jpg", "[x].jpg", "sub/deep.jpg",
]  # fmt: skip


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model directory whose features are the three mean colours."""
    return str(write_model(tmp_path_factory.mktemp("model") / "m", colour_graph(), "colours"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of one colour each under odd names, and files that are no pictures."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        image = Image.new("RGB", (30 + number, 20), (number * 20, 0, 255))
        image.save(folder / name, "PNG")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"nothing to see")
    (folder / ".hidden.jpg").write_bytes(b"x")
    (folder / "_SUCCESS").write_bytes(b"")
    return folder
