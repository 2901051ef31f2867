from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pool3.images.contact_sheet import (
    ACCENT,
    PANEL,
    PAPER,
    Cell,
    contact_sheet,
    drawn_sheet,
    fetched_pictures,
    stacked,
)

RED = Image.new("RGB", (30, 20), (255, 0, 0))
BLUE = Image.new("RGB", (20, 30), (0, 0, 255))
STRANGE = [
    "",
    "日本語.jpg",
    "🌷" * 90,
    "a\nb\tc\0.jpg",
    "\ud83d lone",
    "x" * 5000,
    "%s{}#?.png",
    "שלום",
]


@dataclass
class FakeHits:
    ids: list[str]
    query: Image.Image | None = None
    uris: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.distances = np.linspace(0, 0.5, len(self.ids))
        self.uris = self.uris or self.ids


def share(sheet: Image.Image, colour: tuple[int, int, int]) -> float:
    return float((np.asarray(sheet) == colour).all(axis=2).mean())


def test_the_query_stands_apart_on_the_left_and_the_hits_follow() -> None:
    sheet = drawn_sheet(Cell(RED, "query"), [Cell(BLUE, f"{rank}", "b.jpg") for rank in range(7)])
    left, right = sheet.crop((0, 0, 286, sheet.height)), sheet.crop((286, 0, *sheet.size))
    assert share(left, (255, 0, 0)) > 0.05
    assert share(left, PANEL) > 0.3
    assert share(right, (255, 0, 0)) == 0
    assert share(right, (0, 0, 255)) > 0.1
    assert share(left, (0, 0, 255)) == 0


def test_without_a_query_there_is_no_panel() -> None:
    sheet = drawn_sheet(None, [Cell(BLUE, "1")])
    assert share(sheet, PANEL) == 0
    assert share(sheet, PAPER) > 0.1


@pytest.mark.parametrize("count", [0, 1, 5, 6, 23])
def test_every_number_of_hits_has_its_place(count: int) -> None:
    sheet = drawn_sheet(None, [Cell(BLUE, str(rank)) for rank in range(count)])
    area = share(sheet, (0, 0, 255)) * sheet.width * sheet.height
    assert area == pytest.approx(count * 190 * 127, rel=0.02)


def test_captions_are_drawn_and_stay_inside_their_cells() -> None:
    bare = np.asarray(drawn_sheet(None, [Cell(BLUE, "")] * 2), int)
    captioned = np.asarray(
        drawn_sheet(None, [Cell(BLUE, "1", "long name " * 50), Cell(BLUE, "")]), int
    )
    changed = np.argwhere((bare != captioned).any(axis=2))
    assert changed[:, 0].min() >= 18 + 190
    assert 150 < changed[:, 1].max() < 18 + 190 + 4


def test_a_frame_marks_a_hit() -> None:
    assert share(drawn_sheet(None, [Cell(BLUE, "1", frame=ACCENT)]), ACCENT) > 0.01


@pytest.mark.parametrize("name", STRANGE)
def test_any_name_can_be_drawn_with_or_without_its_picture(name: str) -> None:
    drawn_sheet(Cell(None, name, name), [Cell(None, name, name), Cell(RED, name, name)])


def test_a_picture_that_cannot_be_read_is_a_placeholder(tmp_path: Path) -> None:
    good, broken = tmp_path / "good.png", tmp_path / "broken.png"
    RED.save(good)
    broken.write_bytes(good.read_bytes()[:40])
    ids = [str(good), str(broken), str(tmp_path / "gone.png"), "ftp://a/b", "plain id", "\0"]
    assert [picture is None for picture in fetched_pictures(ids)] == [False] + [True] * 5
    sheet = contact_sheet(FakeHits(ids, query=BLUE))
    assert share(sheet, (255, 0, 0)) > 0.03
    assert share(sheet, (0, 0, 255)) > 0.03


def test_pictures_come_from_where_they_are_not_from_their_ids(tmp_path: Path) -> None:
    RED.save(tmp_path / "red.png")
    sheet = contact_sheet(FakeHits(["a-17"], uris=[str(tmp_path / "red.png")]))
    assert share(sheet, (255, 0, 0)) > 0.3


def test_sheets_are_stacked_without_loss() -> None:
    one, two = drawn_sheet(None, [Cell(RED, "1")]), drawn_sheet(None, [Cell(BLUE, "1")] * 3)
    whole = stacked([one, two])
    assert whole.size == (two.width, one.height + two.height)
