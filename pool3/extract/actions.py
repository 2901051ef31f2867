"""What an extraction does with an input or with a row of the table."""

from __future__ import annotations

NEW, CHANGED, RETRIED, CHECKED = "new", "changed", "retried", "checked"


META, SKIPPED, LEFT = "meta", "skipped", "gone"


EXTRACTED = (NEW, CHANGED, RETRIED, CHECKED)


REPLACED = (CHANGED, RETRIED, CHECKED, META, LEFT)
