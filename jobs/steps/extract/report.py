"""Adds the summaries of the tasks to the report of an extraction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jobs.runtime.report import Report
from pool3.errors import Pool3Error
from pool3.extract.tally import MOST_NAMED
from pool3.extract.task_summary import TaskSummary


def require_every_input(summaries: Sequence[TaskSummary], n_inputs: int) -> None:
    """Raise `Pool3Error` unless the tasks account for each input once, by counts and by rows."""
    counted = sum(task.inputs for task in summaries)
    rows = sum(task.file.rows for task in summaries if task.file is not None)
    unwritten = sum(len(task.retained) + len(task.unchanged) for task in summaries)
    if counted != n_inputs or rows + unwritten != n_inputs:
        raise Pool3Error(
            f"expected {n_inputs} inputs to be accounted for, found {counted} counted, {rows} rows "
            f"written and {unwritten} left as they are; nothing was committed, run the job again"
        )


def fill_report(report: Report, summaries: Sequence[TaskSummary], elapsed_s: float) -> None:
    """Add the tasks to a report.

    Parameters
    ----------
    report
        Its ``seconds["startup"]`` is the driver's startup time. The longest loading time of the
        model is added, since no picture can be extracted before.
    elapsed_s
        Wall time of all chunks.
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
        kept_ok_rows=sum(len(task.retained) for task in summaries),
        copied=sum(task.copied for task in summaries),
        slowest=_most(summaries, "slowest", "seconds"),
        largest=_most(summaries, "largest", "bytes"),
    )


def _most(summaries: Sequence[TaskSummary], which: str, unit: str) -> list[dict[str, object]]:
    """Return the inputs with the largest figures over all tasks, largest first."""
    entries = [tuple(pair) for task in summaries for pair in getattr(task, which)]
    largest = sorted(entries, reverse=True)[:MOST_NAMED]
    return [{"uri": uri, unit: figure} for figure, uri in largest]
