"""Golden files: what others rely on, as text that a person can read in a review.

A test makes a text and compares it with a file in ``golden``. After an intended change,
``POOL3_UPDATE_GOLDEN=1 python -m pytest tests/contract`` writes the files anew; their difference
then belongs in the commit, and in its message the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
UPDATE = "POOL3_UPDATE_GOLDEN"


def check(name: str, text: str) -> None:
    """Fail where `text` is not what the golden file holds; rewrite the file when asked to."""
    path = GOLDEN / name
    text = text.rstrip("\n") + "\n"
    if os.environ.get(UPDATE) == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    held = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text != held:
        lines = unified_diff(
            held.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm=""
        )
        shown = "\n".join(lines)
        pytest.fail(
            f"{shown}\n\nIf this is intended, {UPDATE}=1 writes the file anew.", pytrace=False
        )


def section(heading: str, lines: Iterable[str]) -> str:
    """Return a heading with its lines below it, indented, and an empty line."""
    return "".join([f"{heading}\n", *(f"  {line}\n" for line in lines), "\n"])


def key_paths(document: Any) -> list[str]:
    """Return where the values of a JSON document stand, sorted; lists are folded to ``[]``."""
    return sorted(set(_paths(document, "")))


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _paths(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value or [None]:
            yield from _paths(inner, f"{path}[]")
    else:
        yield path
