"""What the tasks of an extraction did, added up and checked against the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pool3.storage.tables import TableFile


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """One task of an extraction.

    Attributes
    ----------
    file
        The stored part, None when it would hold no row.
    ok, failed, copied, unchanged, kept, errors, seconds
        See `pool3.extract.pipeline.Tally`.
    slowest, largest
        Pairs of seconds or bytes and a uri.
    cpu_s
        User and system time of the worker during the task, all threads.
    engine, precision
        What ran the model.
    worker
        Host and process id of the Python worker; `loads` is how often the model was loaded for
        this task (0 when the worker had it), `load_s` and `load_cpu_s` what that cost.
    """

    file: TableFile | None
    ok: int
    failed: int
    copied: int
    unchanged: Sequence[str]
    kept: Sequence[str]
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
