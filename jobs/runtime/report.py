"""The report of a job: one JSON object, the authority on what a run did."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field

from pool3 import storage
from pool3.features.vectors import SkippedRows
from pool3.storage.names import new_run_id

log = logging.getLogger(__name__)

#: What a step is given to time its phases: `Report.timed`.
Timed = Callable[[str], AbstractContextManager[None]]

SCHEMA_VERSION = 1
OUTCOMES = {0: "done", 1: "failed", 2: "usage", 3: "gate"}
PHASES = ("startup", "fetch", "decode", "inference", "write", "wait", "total")
_DISTRIBUTIONS = (
    "pool3", "pyspark", "tensorflow", "tensorflow-cpu", "keras", "numpy", "pyarrow", "pillow",
    "annoy", "deltalake", "obstore",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide a result."""
    installed = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


@dataclass(kw_only=True)
class Report:
    """What one run of a job did.

    `seconds` holds ``startup`` and ``total`` as wall time, and ``fetch``, ``decode``,
    ``inference``, ``write`` and ``wait`` (of the model for pictures) summed over the tasks.
    `details` is what a job adds of its own; its keys stand beside the common ones.
    """

    job: str
    run_id: str = field(default_factory=new_run_id)
    exit_code: int = 0
    error: str | None = None
    counts: dict[str, int] = field(
        default_factory=lambda: {"ok": 0, "failed": 0, "skipped": 0, "gone": 0}
    )
    errors: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    steady_images_per_s: float | None = None
    cpu_s_per_image: float | None = None
    model_id: str | None = None
    warnings: list[str] = field(default_factory=list)
    details: dict[str, object] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        common = asdict(self)
        details = common.pop("details")
        document = {
            "schema_version": SCHEMA_VERSION,
            "outcome": OUTCOMES[self.exit_code],
            "versions": versions(),
        }
        document.update(common)
        document["seconds"] = {name: round(value, 3) for name, value in self.seconds.items()}
        return json.dumps({**document, **details}, ensure_ascii=False, default=str)

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds of one task to the totals."""
        for phase, value in seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + value

    def warn(self, warning: str) -> None:
        """Add a warning, and log it."""
        self.warnings.append(warning)
        log.warning("%s", warning)

    def count_skipped(self, skipped_rows: SkippedRows) -> None:
        """Count the rows that could not be used as failed or skipped, by reason."""
        self.errors = dict(skipped_rows.errors)
        self.counts.update(failed=sum(skipped_rows.errors.values()), skipped=skipped_rows.skipped)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the wall time of the block to a phase of the job's own."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.add_seconds({phase: time.monotonic() - started})

    def publish(self, uri: str) -> None:
        """Write the report to `uri`, whole."""
        storage.put(storage.canonical_uri(uri), self.to_json().encode() + b"\n")


def default_report_uri(output: str) -> str:
    """Return where a report goes when nobody says: beside the output."""
    return storage.canonical_uri(output) + ".report.json"
