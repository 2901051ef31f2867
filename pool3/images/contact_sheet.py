"""Draws a contact sheet of a search: the query on the left, then the hits with rank and distance.

Pictures are fetched when the sheet is drawn. A picture that cannot be read becomes a placeholder
with its id, not an error.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from PIL import Image, ImageDraw, ImageFont

from pool3 import storage
from pool3.errors import Pool3Error
from pool3.images.open import fetched_picture

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

log = logging.getLogger(__name__)

Colour = tuple[int, int, int]

SIDE = 190  # pixels of a hit's picture box
QUERY_SIDE = 250
GAP = 18
CAPTION = 46
COLUMNS = 5

PAPER: Colour = (255, 255, 255)
PANEL: Colour = (233, 238, 246)
CARD: Colour = (245, 245, 243)
INK: Colour = (32, 34, 38)
FAINT: Colour = (116, 120, 128)
ACCENT: Colour = (38, 92, 168)

_FETCHERS = 8
_MAX_SIDE = 512


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet.

    Parameters
    ----------
    picture
        RGB of any size; None if it cannot be read.
    heading
        The first line of the caption, such as ``1  ·  0.0123``.
    name
        The second line; shortened in the middle if it is too long.
    frame
        Colour of a frame around the picture, or None.
    """

    picture: Image.Image | None
    heading: str
    name: str = ""
    frame: Colour | None = None


class QueryHits(Protocol):
    """The attributes of `pool3.Hits` that a sheet needs."""

    ids: list[str]
    distances: npt.NDArray[np.float64]
    query: Image.Image | None

    @property
    def uris(self) -> list[str]:
        """The uri of the picture of each hit."""


def contact_sheet(hits: QueryHits) -> Image.Image:
    """Draw the hits of one query.

    Parameters
    ----------
    hits
        The result of `Index.search`. Without a `query` picture only the hits are drawn.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    pictures = fetched_pictures(hits.uris)
    cells = [
        Cell(picture, f"{rank}  ·  {distance:.4f}", storage.name_of(image_id))
        for rank, (picture, image_id, distance) in enumerate(
            zip(pictures, hits.ids, hits.distances, strict=True), start=1
        )
    ]
    query = None if hits.query is None else Cell(hits.query, "query")
    return drawn_sheet(query, cells)


def fetched_pictures(uris: Sequence[str]) -> list[Image.Image | None]:
    """Fetch, decode and shrink pictures in threads; None for each that cannot be read."""
    with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="pool3-sheet") as pool:
        return list(pool.map(_fetch_small, uris))


def _fetch_small(uri: str) -> Image.Image | None:
    try:
        picture = fetched_picture(uri)
    except Pool3Error as error:
        log.warning("%s is a placeholder on the sheet: %s", uri, error)
        return None
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return picture


def drawn_sheet(
    query: Cell | None, cells: Sequence[Cell], *, columns: int = COLUMNS
) -> Image.Image:
    """Draw cells in rows of `columns`, with the query in a panel on the left.

    Examples
    --------
    >>> hit = Cell(Image.new("RGB", (40, 30)), "1  ·  0.0200", "a.jpg")
    >>> drawn_sheet(None, [hit], columns=1).size
    (226, 272)
    """
    across = min(columns, max(len(cells), 1))
    rows = max(-(-len(cells) // columns), 1)
    left = 0 if query is None else QUERY_SIDE + 2 * GAP
    pitch = SIDE + CAPTION + GAP
    height = max(rows * pitch, 0 if query is None else _query_height(query)) + GAP
    sheet = Image.new("RGB", (left + across * (SIDE + GAP) + GAP, height), PAPER)
    if query is not None:
        ImageDraw.Draw(sheet).rectangle((0, 0, left - 1, height), fill=PANEL)
        _draw_query(sheet, query)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        corner = (left + GAP + column * (SIDE + GAP), GAP + row * pitch)
        _draw_cell(sheet, cell, corner)
    return sheet


def stacked(sheets: Iterable[Image.Image]) -> Image.Image:
    """Return the sheets of several queries as one picture, below each other."""
    rows = list(sheets)
    result = Image.new(
        "RGB", (max(row.width for row in rows), sum(row.height for row in rows)), PAPER
    )
    top = 0
    for row in rows:
        result.paste(row, (0, top))
        top += row.height
        ImageDraw.Draw(result).line((0, top - 1, result.width, top - 1), fill=PANEL)
    return result


def _query_height(query: Cell) -> int:
    tall = QUERY_SIDE if query.picture is None else _fitted(query.picture, QUERY_SIDE).height
    return GAP + tall + CAPTION


def _draw_query(sheet: Image.Image, query: Cell) -> None:
    draw = ImageDraw.Draw(sheet)
    bottom = GAP + QUERY_SIDE
    if query.picture is None:
        _draw_placeholder(draw, query.name, (GAP, GAP), QUERY_SIDE)
    else:
        fitted = _fitted(query.picture, QUERY_SIDE)
        sheet.paste(fitted, (GAP + (QUERY_SIDE - fitted.width) // 2, GAP))
        bottom = GAP + fitted.height
    _draw_caption(draw, query, (GAP, bottom), QUERY_SIDE, ink=ACCENT)


def _draw_cell(sheet: Image.Image, cell: Cell, corner: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(sheet)
    x, y = corner
    draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), fill=CARD)
    if cell.picture is None:
        _draw_placeholder(draw, cell.name, corner, SIDE)
    else:
        fitted = _fitted(cell.picture, SIDE)
        sheet.paste(fitted, (x + (SIDE - fitted.width) // 2, y + (SIDE - fitted.height) // 2))
    if cell.frame is not None:
        draw.rectangle((x - 4, y - 4, x + SIDE + 3, y + SIDE + 3), outline=cell.frame, width=4)
    _draw_caption(draw, cell, (x, y + SIDE), SIDE, ink=INK)


def _draw_caption(
    draw: ImageDraw.ImageDraw, cell: Cell, corner: tuple[int, int], width: int, *, ink: Colour
) -> None:
    x, y = corner
    heading, small = _font(17), _font(13)
    draw.text((x, y + 7), _elided(cell.heading, heading, width), fill=ink, font=heading)
    draw.text((x, y + 28), _elided(cell.name, small, width), fill=FAINT, font=small)


def _draw_placeholder(
    draw: ImageDraw.ImageDraw, name: str, corner: tuple[int, int], side: int
) -> None:
    x, y = corner
    draw.rectangle((x, y, x + side - 1, y + side - 1), outline=(200, 200, 198), width=2)
    for number, (line, size) in enumerate((("cannot be read", 15), (name, 12))):
        place = (x + side / 2, y + side / 2 + 22 * (number - 0.5))
        font = _font(size)
        draw.text(place, _elided(line, font, side - 16), fill=FAINT, font=font, anchor="mm")


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """Return the picture scaled to fit the box, with the same proportions."""
    scale = side / max(picture.size)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _elided(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Return `text` without control characters, shortened in the middle to `width` pixels."""
    text = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    if font.getlength(text) <= width:
        return text
    length = min(len(text), 200)
    while length > 1:
        length -= 1
        short = text[: (length + 1) // 2] + "…" + text[len(text) - length // 2 :]
        if font.getlength(short) <= width:
            return short
    return "…"
