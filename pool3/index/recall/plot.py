"""A plot of the recall curve of an index."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pool3.errors import UsageError, install_remedy
from pool3.index.format.recall_curve import MEASURED_KS, RecallCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE_INCHES = (7, 4.5)


def plot_recall(curve: RecallCurve, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw recall against the milliseconds of one core that a query takes.

    Each measured point is a dot. A line joins the points with the best recall for their time, and
    the band below it reaches to the lower end of the 95 % interval.

    Parameters
    ----------
    curve
        The field `recall` of a manifest.
    path
        A file to save the plot in as well; its extension selects the format.

    Returns
    -------
    matplotlib.figure.Figure
        A notebook displays it when it is the last value of a cell.

    Raises
    ------
    UsageError
        When matplotlib is not installed, or does not know the extension of `path`.
    """
    try:
        from matplotlib import pyplot  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"a plot needs matplotlib, which is not installed; {install_remedy('notebook')}"
        ) from error
    figure, axes = pyplot.subplots(figsize=_SIZE_INCHES, layout="constrained")
    pyplot.close(figure)  # otherwise a notebook shows it twice
    for k in MEASURED_KS:
        _draw(axes, curve, k)
    _label(axes, curve)
    if path is not None:
        try:
            figure.savefig(path)
        except ValueError as error:
            raise UsageError(f"the plot cannot be saved as {path}: {error}") from error
    return figure


def _label(axes: Axes, curve: RecallCurve) -> None:
    from matplotlib import ticker  # noqa: PLC0415

    axes.set_xscale("log")
    # 0.2 and 0.3 rather than 2 x 10^-1.
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(ticker.LogLocator(subs=(2, 5)))
    axes.xaxis.set_minor_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.set_xlabel("milliseconds of one core for a query")
    axes.set_ylabel("recall")
    axes.set_title(f"{curve.samples:,} sample queries over {curve.rows:,} rows")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _draw(axes: Axes, curve: RecallCurve, k: int) -> None:
    points = sorted(
        (point.ms, point.recall[str(k)], point.low[str(k)])
        for point in curve.points
        if str(k) in point.recall
    )
    best: list[tuple[float, float, float]] = []
    for point in points:
        if not best or point[1] > best[-1][1]:
            best.append(point)
    if not best:
        return
    ms, recall, low = zip(*best, strict=True)
    (line,) = axes.step(ms, recall, where="post", label=f"recall@{k}")
    axes.fill_between(ms, low, recall, step="post", alpha=0.15, color=line.get_color())
    axes.scatter(
        [point[0] for point in points],
        [point[1] for point in points],
        s=8,
        color=line.get_color(),
    )
