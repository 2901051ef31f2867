"""A lake of many small pictures in one run, a table that holds pictures, a long listing planned.

usage: python -m benchmarks.lake [--pictures 100000] [--uris 1000000] [--rows 5000] [--json FILE]

The driver's heap is 1 GB. The pictures are drawn, 32 pixels a side, each another; a graph that only
averages their colours stands in for the model, so that all but inference is what is measured. A
second run over the same pictures shows what a night without news costs. The table holds files of
100 KB in one Parquet file; it is run, run again, and again with a hundredth of them changed. The
listing is a table of uris with etags, of which nothing is there: only the plan is made. Memory is
resident: the peaks of the driver's JVM and Python process, and of the largest Python worker, alone
and with its decoders.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.extract import CORES, session
from benchmarks.watch import Peaks

SIDE = 32
HEAP = "1g"
EVERY_S = 0.2
ROW_BYTES = 100_000
ROWS_A_GROUP = 250


def draw_lake(folder: Path, count: int) -> None:
    """Write so many different PNGs, a thousand a folder."""
    rng = np.random.default_rng(7)
    for number in range(count):
        if number % 1000 == 0:
            below = folder / f"{number // 1000:04d}"
            below.mkdir(parents=True)
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        (below / f"{number:07d}.png").write_bytes(png(pixels))


def draw_table(file: Path, count: int, changed: int = 0) -> None:
    """Write a table of different pictures of 100 KB, the first of them changed."""
    schema = pa.schema([("id", pa.string()), ("photo", pa.binary())])
    ballast = np.random.default_rng(8).bytes(ROW_BYTES)
    with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
        for first in range(0, count, ROWS_A_GROUP):
            numbers = range(first, min(first + ROWS_A_GROUP, count))
            photos = []
            for number in numbers:
                salt = np.random.default_rng([number, number < changed]).integers(0, 256, 48)
                pixels = salt.astype(np.uint8).reshape(4, 4, 3).repeat(8, axis=0).repeat(8, axis=1)
                photos.append(png(pixels, ballast))
            ids = [f"{number:07d}" for number in numbers]
            writer.write_table(pa.table({"id": ids, "photo": photos}, schema))


def draw_listing(file: Path, count: int) -> None:
    """Write a table of uris with their sizes and etags."""
    columns = {
        "uri": [f"/lake/photos/{number:09d}.jpg" for number in range(count)],
        "etag": [f"{number:x}" for number in range(count)],
        "size": [1000] * count,
    }
    pq.write_table(pa.table(columns), file)


def png(pixels: np.ndarray[Any, Any], ballast: bytes = b"") -> bytes:
    """Write RGB pixels as a PNG; a library takes ten times as long for one so small."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", header),
            chunk(b"baLs", ballast) if ballast else b"",
            chunk(b"IDAT", zlib.compress(rows, 1)),
            chunk(b"IEND", b""),
        ]
    )


def measured(label: str, config: Any, spark: Any) -> dict[str, Any]:
    """Run the job once; returns how long it took, where, and with how much memory."""
    from jobs.extract_features import run

    started = time.monotonic()
    with Peaks(every_s=EVERY_S) as peaks:
        report = run(spark, config)
    seconds = time.monotonic() - started
    phases = ("fetch", "decode", "inference", "write", "wait")
    return {
        "run": label,
        "planned": report.details["planned"],
        "seconds": round(seconds, 1),
        **{name: round(report.seconds[name], 1) for name in phases},
        "cpu_ms_a_picture": round(1000 * (report.cpu_s_per_image or 0), 2),
        **{name: round(value) for name, value in peaks.found.items()},
    }


def runs(folder: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield each run's label and configuration; what it reads is made just before."""
    from jobs.extract_features import ExtractConfig
    from tests.jobs.colour_model import colour_graph, write_model

    model = str(write_model(folder / "model", colour_graph(), "colours"))

    def config(source: str, output: str, **options: Any) -> ExtractConfig:
        return ExtractConfig(
            input=str(folder / source), output=str(folder / output), model=model, **options
        )

    draw_lake(folder / "tenth", arguments.pictures // 10)
    yield "a tenth, first run", config("tenth", "tenth-table")
    draw_lake(folder / "lake", arguments.pictures)
    yield "all, first run", config("lake", "table")
    yield "all, second run", config("lake", "table")
    for label, changed in (
        ("pictures in a table, first run", 0),
        ("the same, second run", 0),
        ("the same, a hundredth changed", arguments.rows // 100),
    ):
        draw_table(folder / "photos.parquet", arguments.rows, changed)
        options = {"content_column": "photo", "id_column": "id"}
        yield label, config("photos.parquet", "photos-table", **options)
    draw_listing(folder / "uris.parquet", arguments.uris)
    yield (
        "uris, planned only",
        config(
            "uris.parquet",
            "planned",
            uri_column="uri",
            etag_column="etag",
            size_column="size",
            allow_uri=("/lake/photos",),
            plan=True,
        ),
    )


def main() -> None:
    """Measure the runs and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--uris", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        spark = session(heap=HEAP)
        figures = [
            measured(label, config, spark) for label, config in runs(Path(temporary), arguments)
        ]
    print(f"{CORES} cores, driver heap {HEAP}\n")
    for found in figures:
        print("  ".join(f"{name} {value}" for name, value in found.items()))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
