"""A gallery of drawn pictures with known near-duplicates; needs no data and no network."""

from __future__ import annotations

from pool3.gallery.scenes import draw_scene

__all__ = ["draw_scene"]
