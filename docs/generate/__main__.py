"""Writes what is generated: ``python -m docs.generate``."""

from __future__ import annotations

from docs.generate.imports import REPOSITORY
from docs.generate.pages import write

if __name__ == "__main__":
    for path in write():
        print(f"wrote {path.relative_to(REPOSITORY)}")  # noqa: T201 - a command says what it did
