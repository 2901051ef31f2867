"""A lake of many small pictures in one run, and a listing of a million planned.

usage: python -m benchmarks.lake [--pictures 100000] [--uris 1000000] [--json FILE]

The driver's heap is 1 GB. The pictures are drawn, 32 pixels a side, each another; a graph that only
averages their colours stands in for the model, so that all but inference is what is measured. A
second run over the same pictures shows what a night without news costs. The listing is a table of
uris with etags, of which nothing is there: only the plan is made. Memory is resident: the peaks of
the driver's JVM and Python process, and of the largest Python worker with its decoders.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.extract import CORES, session
from benchmarks.memory import EVERY_S, worker_memory

SIDE = 32
HEAP = "1g"


def draw_lake(folder: Path, count: int) -> None:
    """Write so many different PNGs, a thousand a folder."""
    rng = np.random.default_rng(7)
    for number in range(count):
        if number % 1000 == 0:
            below = folder / f"{number // 1000:04d}"
            below.mkdir(parents=True)
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        (below / f"{number:07d}.png").write_bytes(png(pixels))


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Write RGB pixels as a PNG; a library takes ten times as long for one so small."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 1)), chunk(b"IEND", b"")]
    )


class Peaks:
    """Peak resident memory of driver and workers in MiB, while it is entered."""

    def __enter__(self) -> Peaks:
        self.found = {"driver_python_mib": 0.0, "driver_jvm_mib": 0.0, "worker_mib": 0.0}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(10 * EVERY_S):
            now = {
                "driver_python_mib": _resident_mib(os.getpid()),
                "driver_jvm_mib": max((_resident_mib(pid) for pid in _jvms()), default=0.0),
                "worker_mib": max((total for _, total in worker_memory()), default=0.0),
            }
            self.found = {name: max(self.found[name], value) for name, value in now.items()}


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _jvms() -> list[int]:
    """Return the JVMs that this process started."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if "java" in Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]:
                found.append(int(pid))
    return found


def measured(label: str, config: Any, spark: Any) -> dict[str, Any]:
    """Run the job once; returns how long it took, where, and with how much memory."""
    from jobs.extract_features import run

    started = time.monotonic()
    with Peaks() as peaks:
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


def main() -> None:
    """Measure the runs and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--uris", type=int, default=1_000_000)
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    from jobs.extract_features import ExtractConfig
    from tests.jobs.colour_model import colour_graph, write_model

    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = str(write_model(folder / "model", colour_graph(), "colours"))
        spark = session(heap=HEAP)
        lake, tenth = folder / "lake", folder / "tenth"
        draw_lake(lake, arguments.pictures)
        draw_lake(tenth, arguments.pictures // 10)
        for label, source, output in (
            ("a tenth, first run", tenth, "tenth-table"),
            ("all, first run", lake, "table"),
            ("all, second run", lake, "table"),
        ):
            config = ExtractConfig(input=str(source), output=str(folder / output), model=model)
            figures.append(measured(label, config, spark))
        uris = [f"/lake/photos/{number:09d}.jpg" for number in range(arguments.uris)]
        listing = pa.table({"uri": uris, "etag": [f"{n:x}" for n in range(arguments.uris)]})
        pq.write_table(
            listing.append_column("size", pa.array([1000] * len(uris))), folder / "uris.parquet"
        )
        del uris, listing
        config = ExtractConfig(
            input=str(folder / "uris.parquet"),
            output=str(folder / "planned"),
            model=model,
            uri_column="uri",
            etag_column="etag",
            size_column="size",
            allow_uri=("/lake/photos",),
            plan=True,
        )
        figures.append(measured("uris, planned only", config, spark))
    print(f"{CORES} cores, driver heap {HEAP}\n")
    for found in figures:
        print("  ".join(f"{name} {value}" for name, value in found.items()))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
