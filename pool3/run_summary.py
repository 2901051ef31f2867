"""What a run did, told to a person and to Prometheus; both are made from its report alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pool3.report import OUTCOMES, Report

_REASONS, _PICTURES, _WARNINGS = 8, 3, 2
_URI_CHARACTERS, _TEXT_CHARACTERS = 90, 300
_UNITS = (("seconds", "s"), ("bytes", "bytes"), ("pixels", "pixels"))

Sample = tuple[Mapping[str, str], float]


def summary_text(report: Report) -> str:
    """Tell a person what a run did, in 25 lines or fewer.

    Parameters
    ----------
    report
        Finished. ``details["slowest"]`` and ``details["largest"]``, where given, are lists of
        objects with ``uri`` and ``seconds``, ``bytes`` or ``pixels``, the most telling first;
        ``details["remaining"]`` is what the run left for the next.

    Returns
    -------
    str
        Lines without a last newline. Whatever a uri or a message holds, a terminal prints it as
        characters and not as commands.
    """
    outcome = f"{OUTCOMES[report.exit_code]}, exit status {report.exit_code}"
    lines = [f"{report.job} {report.run_id}: {outcome}"]
    if report.error is not None:
        lines.append(f"  error     {_shown(report.error, _TEXT_CHARACTERS)}")
    lines.append("  pictures  " + ", ".join(f"{n:,} {name}" for name, n in report.counts.items()))
    remaining = report.details.get("remaining")
    if remaining:
        lines.append(f"  remaining {remaining:,}: run the same command again")
    lines.extend(_reasons(report))
    lines.extend(_speed(report))
    for name in ("slowest", "largest"):
        found = report.details.get(name)
        if isinstance(found, Sequence):
            lines.extend(_under(name, [_picture(one) for one in found[:_PICTURES]]))
    told = [_shown(warning, _TEXT_CHARACTERS) for warning in report.warnings[:_WARNINGS]]
    if len(report.warnings) > _WARNINGS:
        told.append(f"and {len(report.warnings) - _WARNINGS} more in the report")
    return "\n".join([*lines, *_under("warnings", told)])


def _under(heading: str, entries: Iterable[str]) -> Iterator[str]:
    for number, entry in enumerate(entries):
        yield f"  {heading if number == 0 else '':9} {entry}"


def _reasons(report: Report) -> Iterator[str]:
    """Yield the table of what went wrong: how often, and in how many of a hundred pictures."""
    tried = report.counts.get("ok", 0) + report.counts.get("failed", 0)
    ranked = sorted(report.errors.items(), key=lambda item: (-item[1], item[0]))
    rows = ranked[:_REASONS]
    if len(ranked) > _REASONS:
        rows.append(("other", sum(count for _, count in ranked[_REASONS:])))
    entries = (
        f"{_shown(code, 24):20} {count:>11,}" + (f" {count / tried:>8.2%}" if tried else "")
        for code, count in rows
    )
    return _under("reasons", entries)


def _speed(report: Report) -> Iterator[str]:
    facts = []
    if report.steady_images_per_s is not None:
        facts.append(f"{report.steady_images_per_s:,.1f} pictures/s")
    if report.cpu_s_per_image is not None:
        facts.append(f"{1000 * report.cpu_s_per_image:,.1f} ms of CPU a picture")
    if facts:
        yield f"  speed     {', '.join(facts)}"
    spent = [f"{name} {_duration(value)}" for name, value in report.seconds.items() if value > 0]
    if spent:
        yield f"  time      {', '.join(spent)}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _picture(facts: Mapping[str, object]) -> str:
    sizes = [
        f"{value:,.1f} {unit}" if isinstance(value, float) else f"{value:,} {unit}"
        for name, unit in _UNITS
        if isinstance(value := facts.get(name), int | float)
    ]
    return f"{', '.join(sizes)}  {_shown(str(facts.get('uri')), _URI_CHARACTERS)}"


def _shown(text: str, most: int) -> str:
    """Return `text` on one line, what does not print as an escape, a long middle left out."""
    plain = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
    if len(plain) <= most:
        return plain
    half = (most - 1) // 2
    return f"{plain[:half]}…{plain[-half:]}"


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
    facts = {"run_id": report.run_id, "outcome": OUTCOMES[report.exit_code]}
    model = {} if report.model_id is None else {"model_id": report.model_id}
    metrics: list[tuple[str, str, list[Sample]]] = [
        ("run_info", "The last run of the job.", [({**job, **facts, **model}, 1)]),
        ("run_exit_code", "0 done, 1 failed, 2 usage, 3 gate.", [(job, report.exit_code)]),
        ("run_finished_timestamp_seconds", "When it ended.", [(job, finished)]),
        ("run_pictures", "What became of the pictures.", _each(job, "status", report.counts)),
        ("run_errors", "Pictures that failed, by reason.", _each(job, "code", report.errors)),
        ("run_seconds", "Time spent, by phase.", _each(job, "phase", report.seconds)),
        ("run_warnings", "Warnings in the report.", [(job, len(report.warnings))]),
        ("run_images_per_second", "Speed after start-up.", _one(job, report.steady_images_per_s)),
        ("run_cpu_seconds_per_image", "CPU time a picture.", _one(job, report.cpu_s_per_image)),
        (
            "run_remaining",
            "Inputs left to the next run.",
            _one(job, report.details.get("remaining")),
        ),
    ]
    return "".join(_metric(name, meaning, samples) for name, meaning, samples in metrics if samples)


def _one(labels: Mapping[str, str], value: object) -> list[Sample]:
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
