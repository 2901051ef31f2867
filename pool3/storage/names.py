"""Unique names of runs and files."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime


def part_name(run_id: str, partition: int) -> str:
    """Return a file name that no other attempt at the same partition uses."""
    return f"part-{partition:05d}-{run_id}-{uuid.uuid4().hex[:12]}.parquet"


def new_run_id() -> str:
    """Return an id that sorts by time and is unique: ``20260131T235959-1a2b3c4d``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
