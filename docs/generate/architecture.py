"""The picture of the house: rooms on their floors, and the imports between them, as an SVG.

The floors come from import-linter's contracts, the arrows from the imports in the code. An import
that follows from others is left out. Where a room stands on its floor, and what it is for in a few
words, is written here; a room without such an entry is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from docs.generate.imports import (
    FACE,
    MAINS,
    Edges,
    between_rooms,
    floors,
    job_packages,
    without_implied,
)

WIDTH = 1120
BOX_WIDTH, BOX_HEIGHT, FLOOR_HEIGHT = 206, 62, 96
FIRST_FLOOR = 56
GAP = 34

#: For each room: the middle of its box, and its purpose in one or two lines.
PLACES = {
    MAINS: (945, "one spark-submit main a job:", "options, run, report"),
    "jobs.steps": (945, "the driver's side of the work,", "functions over a Spark session"),
    "jobs.options": (945, "each job's options,", "parsed and checked"),
    "jobs.runtime": (945, "exit status, report, metrics,", "logs, progress"),
    "udfs": (440, "what runs on executors: functions", "over pandas and Arrow batches"),
    FACE: (140, "import pool3", "pool3.open, Index, Hits, errors"),
    "pool3.cli": (366, "the pool3 command:", "search, info, export"),
    "pool3.gallery": (698, "drawn pictures with", "known near-duplicates"),
    "pool3.search": (440, "open an index, search all shards,", "merge, re-rank, hits"),
    "pool3.index": (320, "files of an index: snapshots,", "shards, recall, reduction"),
    "pool3.engines": (570, "run a frozen graph:", "TensorFlow or OpenVINO"),
    "pool3.extract": (840, "one task of an extraction:", "pictures in, rows out"),
    "pool3.features": (350, "the feature table:", "columns, commits, versions"),
    "pool3.models": (620, "weights from any source,", "one model directory"),
    "pool3.images": (770, "decode in processes of their own,", "resize, contact sheets"),
    "pool3.inputs": (500, "folders, globs, tables,", "inventories of pictures"),
    "pool3.filters": (140, "where=… as text,", "a tree, an Arrow expression"),
    "pool3.vectors": (385, "distances, exact ranking,", "float16"),
    "pool3.storage": (630, "objects, Delta tables, cache:", "local, S3, GCS, Azure, HDFS"),
    "pool3.errors": (400, "what can go wrong, as types,", "with an exit status each"),
}
#: Arrows that pass other floors keep to a lane: how far right they run down.
LANES = {
    ("jobs.steps", "udfs"): 510,
    ("udfs", "pool3.search"): 505,
    ("pool3.index", "pool3.filters"): 140,
}
#: The lane of every other arrow from these rooms into the library.
EXITS = {MAINS: 1085, "jobs.steps": 1085, "jobs.options": 575, "jobs.runtime": 1085, "udfs": 814}
PANELS = (
    ("driver", "jobs/ · on the driver", "#fdf3e3", "#c98a1b"),
    ("executors", "udfs/ · on executors", "#eaf6ec", "#3f9150"),
    ("library", "pool3/ · the library: driver, executors, notebooks, services; no Spark", "#eef3fb",
     "#3b68b0"),
)  # fmt: skip
COLOURS = {name: (fill, line) for name, _, fill, line in PANELS}


class Box(NamedTuple):
    """A room as drawn: the middle of its upper edge."""

    x: int
    y: int

    @property
    def bottom(self) -> int:
        """Where arrows leave."""
        return self.y + BOX_HEIGHT


def architecture_svg() -> str:
    """Return the picture."""
    boxes = _boxes()
    edges = without_implied(between_rooms())
    unknown = {room for edge in edges for room in edge} - boxes.keys()
    if unknown:
        raise LookupError(f"expected a place for {sorted(unknown)} in PLACES of {__name__}")
    height = max(box.bottom for box in boxes.values()) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="Helvetica, Arial, sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#5b6470"/></marker>'
        "</defs>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_legend(),
        *_panels(boxes, height),
        *_arrows(boxes, edges),
        *(line for room, box in boxes.items() for line in _room(room, box)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _boxes() -> dict[str, Box]:
    """Return where each room stands; floors come from the contracts."""
    stack = [MAINS, *(f"jobs.{name}" for name in job_packages())]
    rows = [[room] for room in stack]
    rows[stack.index("jobs.runtime")].append("udfs")
    library = [[f"pool3.{name}" for name in floor] for floor in floors("pool3")]
    library[0].append(FACE)
    below = FIRST_FLOOR + len(rows) * FLOOR_HEIGHT + GAP
    placed = [(FIRST_FLOOR + at * FLOOR_HEIGHT, row) for at, row in enumerate(rows)]
    placed += [(below + at * FLOOR_HEIGHT, row) for at, row in enumerate(library)]
    return {room: Box(PLACES[room][0], y) for y, row in placed for room in row}


def _lane(start: str, end: str) -> int | None:
    """Return the lane of an arrow, None where it goes straight from floor to floor."""
    default = EXITS.get(start) if end.startswith("pool3") else None
    return LANES.get((start, end), default)


def _side(room: str) -> str:
    if room.startswith("jobs"):
        return "driver"
    return "executors" if room == "udfs" else "library"


def _legend() -> Iterator[str]:
    lines = (
        "Who imports whom",
        "An arrow leads from a room to what it imports.",
        "What follows from other arrows is left out:",
        "a room may import whatever its arrows reach.",
        "No arrow leads up, and import-linter keeps it so.",
    )
    for at, text in enumerate(lines):
        size, weight = (17, "bold") if at == 0 else (13, "normal")
        yield (
            f'<text x="24" y="{50 + at * 21}" font-size="{size}" font-weight="{weight}" '
            f'fill="#2b3138">{escape(text)}</text>'
        )


def _panels(boxes: dict[str, Box], height: int) -> Iterator[str]:
    for name, title, fill, line in PANELS:
        inside = [box for room, box in boxes.items() if _side(room) == name]
        top = min(box.y for box in inside) - 30
        bottom = max(box.bottom for box in inside) + 12
        left = min(box.x for box in inside) - BOX_WIDTH // 2 - 16
        right = max(box.x for box in inside) + BOX_WIDTH // 2 + 16
        if name == "library":
            left, right, bottom = 12, WIDTH - 12, height - 12
        yield (
            f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="10" '
            f'fill="{fill}" stroke="{line}" stroke-opacity="0.45"/>'
        )
        yield (
            f'<text x="{left + 14}" y="{top + 19}" font-size="13" font-weight="bold" '
            f'fill="{line}">{escape(title)}</text>'
        )


def _arrows(boxes: dict[str, Box], edges: Edges) -> Iterator[str]:
    for start, end in sorted(edges):
        path = _path(start, end, boxes, edges)
        yield (
            f'<path d="{path}" fill="none" stroke="#5b6470" stroke-width="1.5" '
            f'marker-end="url(#tip)"><title>{escape(start)} imports {escape(end)}</title></path>'
        )


def _path(start: str, end: str, boxes: dict[str, Box], edges: Edges) -> str:
    """Return an arrow: from bottom to top, or by a lane out of the side of its first box."""
    lane, top = _lane(start, end), boxes[end].y - 1
    into = _port(end, start, boxes, [a for a, b in edges if b == end])
    if lane is None:
        leave, y = _port(start, end, boxes, _below(start, edges)), boxes[start].bottom
        middle = (y + top) // 2
        return f"M{leave} {y} C{leave} {middle} {into} {middle} {into} {top}"
    half = BOX_WIDTH // 2
    down = f"L{lane} {top - 34} C{lane} {top - 12} {into} {top - 30} {into} {top}"
    if abs(lane - boxes[start].x) < half:
        return f"M{lane} {boxes[start].bottom} {down}"
    side = boxes[start].x + (half if lane > boxes[start].x else -half)
    y = boxes[start].y + BOX_HEIGHT // 2
    return f"M{side} {y} C{lane} {y} {lane} {y} {lane} {y + 36} {down}"


def _below(room: str, edges: Edges) -> list[str]:
    """Return what a room imports by arrows that leave at its bottom, not by a lane."""
    return [end for start, end in edges if start == room and _lane(start, end) is None]


def _port(room: str, other: str, boxes: dict[str, Box], others: list[str]) -> int:
    """Return where on a box's edge an arrow begins or ends, so that they do not meet."""

    def side(name: str) -> int:
        lane = _lane(name, room)
        return boxes[name].x if lane is None else lane

    order = sorted(others, key=side)
    if len(order) == 1:
        lane = _lane(other, room)
        above = lane is not None and abs(lane - boxes[room].x) < BOX_WIDTH // 2
        return lane if lane is not None and above else boxes[room].x
    step = min(40, (BOX_WIDTH - 40) // max(1, len(order)))
    return boxes[room].x + round((order.index(other) - (len(order) - 1) / 2) * step)


def _room(room: str, box: Box) -> Iterator[str]:
    _, line = COLOURS[_side(room)]
    left = box.x - BOX_WIDTH // 2
    name = room.replace(".", "/") if room not in (MAINS, FACE) else room
    name = "pool3/errors.py" if room == "pool3.errors" else name
    name = "pool3/__init__.py" if room == FACE else name
    yield (
        f'<rect x="{left}" y="{box.y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7" '
        f'fill="#ffffff" stroke="{line}" stroke-width="1.4"/>'
    )
    yield (
        f'<text x="{box.x}" y="{box.y + 20}" font-size="14" font-weight="bold" '
        f'text-anchor="middle" fill="#1d2329">{escape(name)}</text>'
    )
    for at, text in enumerate(PLACES[room][1:]):
        yield (
            f'<text x="{box.x}" y="{box.y + 37 + at * 15}" font-size="11.5" '
            f'text-anchor="middle" fill="#3d454e">{escape(str(text))}</text>'
        )
