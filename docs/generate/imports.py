"""Who imports whom, as the code stands: rooms of the repository and the imports between them."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grimp

REPOSITORY = Path(__file__).resolve().parents[2]
MAINS = "jobs/*.py"
FACE = "pool3"

Edges = frozenset[tuple[str, str]]


def contracts() -> list[dict[str, Any]]:
    """Return import-linter's contracts, as ``pyproject.toml`` has them."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text)["tool"]["importlinter"]["contracts"])


def floors(container: str) -> list[list[str]]:
    """Return the layers of a package from top to bottom; each layer is a list of rooms."""
    for contract in contracts():
        if contract.get("containers") == [container]:
            return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]
    raise LookupError(f"expected a contract of layers for {container} in pyproject.toml")


def between_rooms() -> Edges:
    """Return the imports between rooms: packages in ``pool3`` and ``jobs``, mains, ``udfs``."""
    graph = _graph()
    pairs = (
        (room_of(module), room_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    )
    return frozenset(pair for pair in pairs if pair[0] != pair[1])


def without_implied(edges: Edges) -> Edges:
    """Leave out each import that follows from others: a → c where a → b → c."""
    return frozenset(
        (start, end) for start, end in edges if end not in set(_reached(start, end, edges))
    )


def _graph() -> grimp.ImportGraph:
    if str(REPOSITORY) not in sys.path:
        sys.path.insert(0, str(REPOSITORY))
    return grimp.build_graph("pool3", "udfs", "jobs", cache_dir=None)


def room_of(module: str) -> str:
    """Return the room that a module lies in.

    Examples
    --------
    >>> room_of("pool3.index.shards.tree"), room_of("jobs.build_index"), room_of("udfs.scan")
    ('pool3.index', 'jobs/*.py', 'udfs')
    """
    names = module.split(".")
    if names[0] == "udfs":
        return "udfs"
    if names[0] == "jobs" and names[1:2] not in [[package] for package in job_packages()]:
        return MAINS
    return ".".join(names[:2])


def job_packages() -> list[str]:
    """Return the packages in ``jobs``, from top to bottom."""
    return [name for layer in floors("jobs")[1:] for name in layer]


def _reached(start: str, end: str, edges: Edges) -> Iterator[str]:
    """Yield what `start` imports in at least two steps, or in one other than to `end`."""
    seen: set[str] = set()
    waiting = [right for left, right in edges if left == start and right != end]
    while waiting:
        room = waiting.pop()
        if room not in seen:
            seen.add(room)
            yield room
            waiting += [right for left, right in edges if left == room]
