"""Commands in pages: which make targets and which jobs they name."""

from __future__ import annotations

import re


def make_targets_named(text: str) -> list[str]:
    """Return the targets of lines that call make."""
    return re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)


def jobs_named(text: str) -> list[str]:
    """Return the jobs of lines that call submit.sh."""
    return re.findall(r"^\./submit\.sh ([a-z][a-z-]*) ", text, re.MULTILINE)
