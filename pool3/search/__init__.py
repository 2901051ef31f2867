"""Searching an index: queries in, hits out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pool3.search.index import Index, open_index

__all__ = ["Index", "open_index"]


def __getattr__(name: str) -> Any:
    # Imported at the first use: executors import modules of this package without picture code.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("pool3.search.index"), name)
