"""The action that an extraction plans for an input or for an existing row."""

from __future__ import annotations

NEW, CHANGED, RETRIED, CHECKED = "new", "changed", "retried", "checked"
META, SKIPPED, LEFT = "meta", "skipped", "gone"

#: Actions that fetch the picture.
EXTRACTED = (NEW, CHANGED, RETRIED, CHECKED)

#: Actions that replace an existing row.
REPLACED = (CHANGED, RETRIED, CHECKED, META, LEFT)
