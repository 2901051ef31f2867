"""What the tasks of an extraction did, added up and checked against the inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pool3.errors import Pool3Error
from pool3.features.extraction import MOST_NAMED
from pool3.report import Report
from pool3.storage.tables import TableFile


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """One task of an extraction.

    Attributes
    ----------
    file
        The stored part, None when it would hold no row.
    ok, failed, copied, unchanged, kept, errors, seconds
        See `pool3.features.extraction.Tally`.
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


def require_every_input(summaries: Sequence[TaskSummary], n_inputs: int) -> None:
    """Raise `Pool3Error` unless the tasks account for each input once, by counts and by rows."""
    counted = sum(task.inputs for task in summaries)
    rows = sum(task.file.rows for task in summaries if task.file is not None)
    kept = sum(len(task.kept) + len(task.unchanged) for task in summaries)
    if counted != n_inputs or rows + kept != n_inputs:
        raise Pool3Error(
            f"expected {n_inputs} inputs to be accounted for, found {counted} counted and "
            f"{rows} rows written beside {kept} kept; nothing was committed, run the job again"
        )


def fill_report(report: Report, summaries: Sequence[TaskSummary], elapsed_s: float) -> None:
    """Add the tasks to a report.

    Parameters
    ----------
    report
        Its ``seconds["startup"]`` is the driver's so far; the slowest loading of the model is
        added, since no picture could be done before.
    elapsed_s
        Wall time of all chunks together.
    """
    for task in summaries:
        report.add_seconds(task.seconds)
    n_pictures = sum(task.inputs for task in summaries)
    load_s = max((task.load_s for task in summaries), default=0.0)
    report.counts["ok"] = sum(task.ok for task in summaries)
    report.counts["failed"] = sum(task.failed for task in summaries)
    report.counts["skipped"] += sum(len(task.unchanged) for task in summaries)
    report.errors = dict(sum((Counter(task.errors) for task in summaries), Counter()))
    report.seconds["startup"] += load_s
    if n_pictures:
        report.steady_images_per_s = round(n_pictures / max(elapsed_s - load_s, 1e-9), 2)
        report.cpu_s_per_image = round(sum(task.cpu_s for task in summaries) / n_pictures, 5)
    report.details.update(
        tasks=len(summaries),
        workers=len({task.worker for task in summaries}),
        model_loads=sum(task.loads for task in summaries),
        engines=sorted({f"{task.engine} {task.precision}" for task in summaries}),
        kept_ok_rows=sum(len(task.kept) for task in summaries),
        copied=sum(task.copied for task in summaries),
        slowest=_most(summaries, "slowest", "seconds"),
        largest=_most(summaries, "largest", "bytes"),
    )


def _most(summaries: Sequence[TaskSummary], which: str, unit: str) -> list[dict[str, object]]:
    """Return the inputs with the largest figures over all tasks, the first of them first."""
    found = [tuple(pair) for task in summaries for pair in getattr(task, which)]
    return [{"uri": uri, unit: figure} for figure, uri in sorted(found, reverse=True)[:MOST_NAMED]]
