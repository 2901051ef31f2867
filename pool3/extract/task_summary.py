"""The summary that one extraction task sends to the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pool3.storage.tables import TableFile


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """What one task of an extraction did.

    Attributes
    ----------
    file
        The stored Parquet file, None if the task had no rows to store.
    ok, failed, copied, unchanged, retained, errors, seconds
        See `pool3.extract.tally.Tally`.
    slowest, largest
        Pairs of seconds or bytes, and uri.
    cpu_s
        User and system time of the worker during the task, all threads.
    engine, precision
        The engine that ran the model, and its precision.
    worker
        Host and process id of the Python worker.
    loads, load_s, load_cpu_s
        How often this task loaded the model (0 if the worker had it already), and the wall and CPU
        time of that.
    """

    file: TableFile | None
    ok: int
    failed: int
    copied: int
    unchanged: Sequence[str]
    retained: Sequence[str]
    errors: Mapping[str, int]
    seconds: Mapping[str, float]
    slowest: Sequence[tuple[float, str]]
    largest: Sequence[tuple[float, str]]
    cpu_s: float
    engine: str
    precision: str
    worker: str
    loads: int
    load_s: float
    load_cpu_s: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TaskSummary:
        """Return the summary that `as_dict` described."""
        file = fields["file"]
        return cls(**{**fields, "file": None if file is None else TableFile.from_dict(file)})

    @property
    def inputs(self) -> int:
        """How many inputs the task accounts for."""
        return self.ok + self.failed + len(self.unchanged)
