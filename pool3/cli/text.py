"""The output of the console script: index info, hits and recall, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pool3.index.format.recall_curve import RecallCurve
    from pool3.search.hits import Hits

_AIMS = (0.9, 0.95, 0.99)
_AIMED_K = 10


def info_text(info: Mapping[str, Any], curve: RecallCurve | None) -> str:
    """Return the properties of an index, one per line, and its recall by effort."""
    shown = {name: value for name, value in info.items() if value is not None and name != "recall"}
    width = max(map(len, shown))
    lines = [
        f"{name.replace('_', ' '):<{width}}  {_value_text(value)}" for name, value in shown.items()
    ]
    if curve is None:
        return "\n".join([*lines, f"{'recall':<{width}}  not measured"])
    return "\n".join([*lines, "", *recall_lines(curve)])


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {name}" for name, count in value.items())
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))


def recall_lines(curve: RecallCurve) -> list[str]:
    """Return a small table: the cheapest measured search that reaches each aim, and the best one.

    A search reaches an aim if the lower end of its 95 % interval of recall@10 does.
    """
    best = curve.best(_AIMED_K)
    chosen = [(f"{aim:.2f}", curve.cheapest(_AIMED_K, aim)) for aim in _AIMS] + [("best", best)]
    measured = sorted({int(k) for _, point in chosen if point is not None for k in point.recall})
    names = ["aim", "ms", "search_k", "rerank", *(f"recall@{k}" for k in measured), "at least"]
    rows = [names]
    for aim, point in chosen:
        if point is None:
            rows.append([aim, "not reached", *[""] * (len(names) - 2)])
            continue
        recalls = [
            f"{point.recall[str(k)]:.4f}" if str(k) in point.recall else "" for k in measured
        ]
        low = f"{point.low_at(_AIMED_K):.4f}"
        rows.append(
            [aim, f"{point.ms:.2f}", f"{point.search_k:,}", f"{point.rerank:,}", *recalls, low]
        )
    title = f"recall, measured with {curve.samples:,} samples of {curve.rows:,} rows"
    note = f"aim, at least: the lower end of the 95 % interval of recall@{_AIMED_K}"
    return [title, *_aligned(rows), note]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line per row, with right-aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def hits_text(hits: Hits, columns: Sequence[str]) -> str:
    """Return a table of hits, best first, with the given metadata columns."""
    metadata = _column_values(hits, columns)
    rows = [["rank", f"{'distance':>10}", *metadata]]
    rows += [
        [str(hit.rank), f"{hit.distance:.4f}", *(_cell(values[at]) for values in metadata.values())]
        for at, hit in enumerate(hits)
    ]
    names = ["image_id"]
    for hit, uri in zip(hits, hits.uris, strict=True):
        elsewhere = "" if uri == hit.image_id else f"  ({printable(uri)})"
        names.append(f"{printable(hit.image_id)}{elsewhere}")
    return "\n".join(f"{line}  {name}" for line, name in zip(_aligned(rows), names, strict=True))


def hits_json(hits: Hits, columns: Sequence[str], request: Mapping[str, Any]) -> str:
    """Return hits as one JSON object, together with the fields of `request`."""
    metadata = _column_values(hits, columns)
    entries = []
    for at, (hit, uri) in enumerate(zip(hits, hits.uris, strict=True)):
        entry = {
            "rank": hit.rank,
            "distance": hit.distance,
            "image_id": hit.image_id,
            "uri": uri,
        }
        if columns:
            entry["columns"] = {name: values[at] for name, values in metadata.items()}
        entries.append(entry)
    return json.dumps({**request, "recall_at_least": hits.recall, "hits": entries}, default=str)


def _column_values(hits: Hits, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Return metadata columns as plain values: None for null, the number of bytes for bytes."""
    if not columns:
        return {}
    import pyarrow as pa  # noqa: PLC0415 - heavy, and not for --help

    frame = hits.to_pandas().drop(columns=["rank", "image_id", "distance"])
    # pandas turns integers beside nulls into floats; convert_dtypes makes them integers again.
    table = pa.Table.from_pandas(frame.convert_dtypes(), preserve_index=False).to_pydict()
    return {
        name: [f"{len(value)} bytes" if isinstance(value, bytes) else value for value in values]
        for name, values in table.items()
    }


def _cell(value: Any) -> str:
    return "" if value is None else printable(str(value))


def printable(text: str) -> str:
    """Return text with its control characters escaped, safe for a table and a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
