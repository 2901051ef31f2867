"""A report as metrics in the text format that Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from jobs.runtime.report import OUTCOMES, Report

Sample = tuple[Mapping[str, str], float]


def prometheus_text(report: Report, *, finished_at_s: float | None = None) -> str:
    """Return a run as Prometheus reads it from a file, for node_exporter's textfile collector.

    Every metric is a gauge of the last run and carries its job, so one file a job is enough.

    Parameters
    ----------
    report
        Finished.
    finished_at_s
        Unix time; now when None. ``time() - pool3_run_finished_timestamp_seconds`` is the age of
        the last run, which an alert can watch.

    Returns
    -------
    str
        The text exposition format, version 0.0.4.
    """
    job = {"job": report.job}
    finished = time.time() if finished_at_s is None else finished_at_s
    run = {"run_id": report.run_id, "outcome": OUTCOMES[report.exit_code]}
    model = {} if report.model_id is None else {"model_id": report.model_id}
    metrics: list[tuple[str, str, list[Sample]]] = [
        ("run_info", "The last run of the job.", [({**job, **run, **model}, 1)]),
        ("run_exit_code", "0 done, 1 failed, 2 usage, 3 gate.", [(job, report.exit_code)]),
        ("run_finished_timestamp_seconds", "When it ended.", [(job, finished)]),
        ("run_pictures", "What became of the pictures.", _each(job, "status", report.counts)),
        ("run_errors", "Pictures that failed, by reason.", _each(job, "code", report.errors)),
        ("run_seconds", "Time spent, by phase.", _each(job, "phase", report.seconds)),
        ("run_warnings", "Warnings in the report.", [(job, len(report.warnings))]),
        (
            "run_images_per_second",
            "Speed after start-up.",
            _single(job, report.steady_images_per_s),
        ),
        ("run_cpu_seconds_per_image", "CPU time a picture.", _single(job, report.cpu_s_per_image)),
        (
            "run_remaining",
            "Inputs left to the next run.",
            _single(job, report.details.get("remaining")),
        ),
    ]
    return "".join(_metric(name, meaning, samples) for name, meaning, samples in metrics if samples)


def _single(labels: Mapping[str, str], value: object) -> list[Sample]:
    return [(labels, value)] if isinstance(value, int | float) else []


def _each(labels: Mapping[str, str], name: str, values: Mapping[str, float]) -> list[Sample]:
    return [({**labels, name: key}, value) for key, value in values.items()]


def _metric(name: str, meaning: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP pool3_{name} {meaning}", f"# TYPE pool3_{name} gauge"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"pool3_{name}{{{inside}}} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
