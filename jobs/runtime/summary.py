"""The summary of a run for a person, made from its report alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from jobs.runtime.report import OUTCOMES, Report

_REASONS, _PICTURES, _WARNINGS = 8, 3, 2
_URI_CHARACTERS, _TEXT_CHARACTERS = 90, 300
_UNITS = (("seconds", "s"), ("bytes", "bytes"), ("pixels", "pixels"))


def summary_text(report: Report) -> str:
    """Return what a run did in 25 lines or fewer, for a person.

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
        lines.append(f"  error     {_printable(report.error, _TEXT_CHARACTERS)}")
    lines.append("  pictures  " + ", ".join(f"{n:,} {name}" for name, n in report.counts.items()))
    remaining = report.details.get("remaining")
    if remaining:
        lines.append(f"  remaining {remaining:,}: run the same command again")
    lines.extend(_reasons(report))
    lines.extend(_speed(report))
    for name in ("slowest", "largest"):
        pictures = report.details.get(name)
        if isinstance(pictures, Sequence):
            lines.extend(_under(name, [_picture(picture) for picture in pictures[:_PICTURES]]))
    warnings = [_printable(warning, _TEXT_CHARACTERS) for warning in report.warnings[:_WARNINGS]]
    if len(report.warnings) > _WARNINGS:
        warnings.append(f"and {len(report.warnings) - _WARNINGS} more in the report")
    return "\n".join([*lines, *_under("warnings", warnings)])


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
        f"{_printable(code, 24):20} {count:>11,}" + (f" {count / tried:>8.2%}" if tried else "")
        for code, count in rows
    )
    return _under("reasons", entries)


def _speed(report: Report) -> Iterator[str]:
    speeds = []
    if report.steady_images_per_s is not None:
        speeds.append(f"{report.steady_images_per_s:,.1f} pictures/s")
    if report.cpu_s_per_image is not None:
        speeds.append(f"{1000 * report.cpu_s_per_image:,.1f} ms of CPU a picture")
    if speeds:
        yield f"  speed     {', '.join(speeds)}"
    spent = [f"{name} {_duration(value)}" for name, value in report.seconds.items() if value > 0]
    if spent:
        yield f"  time      {', '.join(spent)}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _picture(entry: Mapping[str, object]) -> str:
    sizes = [
        f"{value:,.1f} {unit}" if isinstance(value, float) else f"{value:,} {unit}"
        for name, unit in _UNITS
        if isinstance(value := entry.get(name), int | float)
    ]
    return f"{', '.join(sizes)}  {_printable(str(entry.get('uri')), _URI_CHARACTERS)}"


def _printable(text: str, most: int) -> str:
    """Return `text` on one line, what does not print as an escape, a long middle left out."""
    plain = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
    if len(plain) <= most:
        return plain
    half = (most - 1) // 2
    return f"{plain[:half]}…{plain[-half:]}"
