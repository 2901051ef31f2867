"""Tables and plots of what `benchmarks.index` measured."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.index_rivals import WAYS

RECALLS = (0.95, 0.99)
_STARTED = time.monotonic()


def progress(text: str) -> None:
    """Tell on stderr what goes on."""
    print(f"{time.monotonic() - _STARTED:7.0f} s  {text}", file=sys.stderr, flush=True)


def frontier(points: list[dict[str, Any]], cost: str) -> list[tuple[float, float]]:
    """Return (recall, cost) of the points that no other beats in both, by rising recall."""
    best: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (-point["recall"], point[cost])):
        if not best or point[cost] < best[-1][1]:
            best.append((point["recall"], point[cost]))
    return best[::-1]


def at_recall(points: list[dict[str, Any]], recall: float, cost: str) -> float | None:
    """Return the least cost of a recall, on straight lines between points; None where none is.

    Examples
    --------
    >>> points = [{"recall": 0.9, "ms": 1.0}, {"recall": 1.0, "ms": 3.0}]
    >>> round(at_recall(points, 0.95, "ms"), 3)
    2.0
    >>> at_recall(points, 0.5, "ms"), at_recall(points[:1], 0.95, "ms")
    (1.0, None)
    """
    line = frontier(points, cost)
    above = next((at for at, (found, _) in enumerate(line) if found >= recall), None)
    if above is None:
        return None
    high, high_cost = line[above]
    if above == 0 or high == recall:
        return high_cost
    low, low_cost = line[above - 1]
    return low_cost + (high_cost - low_cost) * (recall - low) / (high - low)


def printed(figures: dict[str, Any], rows: int, folder: Path) -> str:
    """Return a table for each data set and number of threads, and what must be shown; draw."""
    parts: list[str] = []
    groups = sorted({_group(key) for key in figures if key.split("/")[1] == str(rows)})
    for data, threads in groups:
        found = {
            way: figures[f"{data}/{rows}/{way}/{threads}"]
            for way in WAYS
            if f"{data}/{rows}/{way}/{threads}" in figures
        }
        title = f"{data}, at most {rows} rows, {threads} thread{'s' * (threads > 1)}"
        parts += [title + "\n", table(found)]
        parts.append(plot(found, title, folder / f"{data}-{rows}-{threads}.png"))
    parts.append(claims(figures, rows))
    return "\n".join(parts)


def _group(key: str) -> tuple[str, int]:
    data, _, _, threads = key.split("/")
    return data, int(threads)


def table(found: dict[str, Any]) -> str:
    """Lay the figures of one data set out, quickest at the higher recall first."""
    heads = ["build s", "cpu s", "MB", "peak MiB", "search MiB"]
    for recall in RECALLS:
        heads += [f"p50 {recall}", f"p99 {recall}"]
    heads += ["many/s", "best"]
    lines = [f"{'way':<36}" + "".join(f"{head:>11}" for head in heads)]
    ranked = sorted(found, key=lambda way: _points_cost(found[way], RECALLS[-1], "p50_ms"))
    for way in ranked:
        cells = "".join(f"{cell:>11}" for cell in _cells(found[way]))
        lines.append(f"{WAYS[way].title:<36}{cells}")
    return "\n".join(lines) + "\n"


def _cells(one: dict[str, Any]) -> list[str]:
    built, searched = one.get("build"), one.get("search")
    cells = ["-"] * 4
    if built:
        cells = [
            f"{built['seconds']:.1f}",
            f"{built['cpu_s']:.1f}",
            f"{built['bytes'] / 1e6:.0f}",
            f"{built['peak_mib']:.0f}",
        ]
    if not searched:
        return [*cells, *["-"] * (3 + 2 * len(RECALLS))]
    points = searched["points"]
    cells.append(f"{searched['peak_mib']:.0f}")
    for recall in RECALLS:
        cells += [_shown(at_recall(points, recall, cost)) for cost in ("p50_ms", "p99_ms")]
    cells.append(_shown(at_recall(_per_query(points), RECALLS[-1], "s"), lambda s: f"{1 / s:.0f}"))
    return [*cells, f"{max(point['recall'] for point in points):.4f}"]


def _per_query(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"recall": point["recall"], "s": 1 / point["many_per_s"]} for point in points]


def _shown(value: float | None, shape: Any = "{:.3f}".format) -> str:
    return "-" if value is None else str(shape(value))


def _points_cost(one: dict[str, Any], recall: float, cost: str) -> float:
    found = at_recall(one["search"]["points"], recall, cost) if "search" in one else None
    return float("inf") if found is None else found


def claims(figures: dict[str, Any], rows: int) -> str:
    """Return what pool3 claims on the clustered vectors, and whether it holds here."""

    def cost(way: str, threads: int) -> float:
        return _points_cost(figures.get(f"clustered/{rows}/{way}/{threads}", {}), 0.99, "p50_ms")

    def built(way: str, threads: int, unit: str) -> float:
        one = figures.get(f"clustered/{rows}/{way}/{threads}", {})
        return float(one["build"][unit]) if "build" in one else float("inf")

    return "\n".join(
        [
            f"claims, on {rows} clustered rows, searches at a recall@10 of 0.99",
            _claim("ms, one shard, to hnswlib, 1 thread", cost("pool3", 1), cost("hnswlib", 1), 1),
            _claim(
                "ms, one shard, to hnswlib on the PCA, 1 thread",
                cost("pool3", 1),
                cost("hnswlib-pca", 1),
                1.5,
            ),
            _claim("ms, 16 shards on two cores, to 2", cost("pool3-16", 2), 2, 1),
            *(
                _claim(
                    f"build, {told} of {way} to hnswlib, {threads} threads",
                    built(way, threads, unit),
                    built("hnswlib", threads, unit),
                    1 / 8,
                )
                for way, threads in (("pool3", 1), ("pool3", 2), ("pool3-16", 2))
                for unit, told in (("seconds", "s"), ("cpu_s", "cpu s"))
            ),
        ]
    )


def _claim(what: str, ours: float, theirs: float, most: float) -> str:
    if math.isinf(ours) or math.isinf(theirs):
        return f"  not measured, or not reached: {what}"
    verdict = "holds" if ours <= most * theirs else "FAILS"
    return f"  {verdict}: {what}: {ours:.3f} to {theirs:.3f}, {ours / theirs:.3f} of {most:.3f}"


def plot(found: dict[str, Any], title: str, path: Path) -> str:
    """Draw recall against queries a second, one at a time; returns where."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    colours = pyplot.get_cmap("tab20")
    for number, (way, one) in enumerate(found.items()):
        if "search" in one:
            line = frontier(one["search"]["points"], "p50_ms")
            # The share that is missed, so that 0.99 and 0.999 lie apart.
            missed = [max(1 - recall, 1e-4) for recall, _ in line]
            style = "o-" if way.startswith("pool3") else "x--"
            rates = [1e3 / ms for _, ms in line]
            axes.plot(missed, rates, style, label=WAYS[way].title, color=colours(number))
    axes.set(xscale="log", yscale="log", xlabel="recall@10", ylabel="queries a second", title=title)
    ticks = (0.5, 0.2, 0.1, 0.05, 0.01, 0.001, 0.0001)
    axes.set_xticks(ticks, [f"{1 - tick:g}" for tick in ticks[:-1]] + ["all"])
    axes.set_xlim(0.6, 8e-5)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return f"plot: {path}\n"
