"""Peak memory of a Python worker with its decoders, by engine and by what the pictures are.

usage: python -m benchmarks.memory PICTURES [--engines openvino,tensorflow] [--json FILE]

The extract-features job runs with one task at a time, default settings, on a few and on many photos
of the folder, and on drawn pictures of 50 megapixels, the most that a picture may have. The
resident memory of the Python worker and of all processes below it is read every 20 ms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.extract import REPOSITORY, links, photos, session
from benchmarks.watch import Peaks

FEW, MANY = 64, 640
COPIES = 4
LARGE = (7071, 7071)
EVERY_S = 0.02


def draw_large(folder: Path) -> dict[str, Path]:
    """Draw pictures of 50 megapixels, one folder a kind, the same picture a few times over."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (221, 221, 3), dtype=np.uint8)
    rgb = Image.fromarray(coarse).resize(LARGE, Image.Resampling.BICUBIC)
    floats = rgb.convert("F")
    kinds = {
        "50 MP JPEG": (rgb, "large.jpg", {"quality": 90}),
        "50 MP progressive JPEG": (rgb, "progressive.jpg", {"quality": 90, "progressive": True}),
        "50 MP PNG": (rgb, "large.png", {"compress_level": 1}),
        "50 MP CMYK JPEG": (rgb.convert("CMYK"), "cmyk.jpg", {}),
        "50 MP float TIFF": (floats, "float.tif", {}),
    }
    folders = {}
    for kind, (image, name, options) in kinds.items():
        folders[kind] = folder / name
        folders[kind].mkdir()
        first = folders[kind] / f"0-{name}"
        image.save(first, **options)
        for copy in range(1, COPIES):
            (folders[kind] / f"{copy}-{name}").symlink_to(first)
    return folders


def measure(engine: str, pictures: str) -> list[dict[str, Any]]:
    """Run the job on each kind of pictures in this process; returns the peaks."""
    from jobs.extract_features import ExtractConfig
    from jobs.extract_features import run as extract_features

    found = []
    uris = photos(pictures, None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runs = {
            f"{count} photos": links(folder / str(count), (uris * count)[:count])
            for count in (FEW, MANY)
        } | draw_large(folder)
        spark = session(cores=1)
        for number, (kind, where) in enumerate(runs.items()):
            with Peaks(every_s=EVERY_S) as peaks:
                report = extract_features(
                    spark,
                    ExtractConfig(
                        input=str(where),
                        output=f"{folder}/table-{number}",
                        model="seeded",
                        engine=engine,
                    ),
                )
            found.append(
                {
                    "engine": "".join(report.details["engines"]),
                    "pictures": kind,
                    "ok": report.counts["ok"],
                    "worker_mib": round(peaks.found["worker_mib"]),
                    "with_decoders_mib": round(peaks.found["with_decoders_mib"]),
                }
            )
    return found


def main() -> None:
    """Measure each engine in a process of its own and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", help="a folder of photos")
    parser.add_argument("--engines", default="openvino,tensorflow")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    if arguments.engine:
        print(json.dumps(measure(arguments.engine, arguments.pictures)))
        return
    figures: list[dict[str, Any]] = []
    for engine in arguments.engines.split(","):
        command = [sys.executable, "-m", "benchmarks.memory", arguments.pictures]
        answer = subprocess.run(
            [*command, "--engine", engine], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True
        )
        figures += json.loads(answer.stdout.splitlines()[-1])
    print(f"{'engine':<24}{'pictures':<26}{'ok':>6}{'worker MiB':>12}{'with decoders MiB':>18}")
    for found in figures:
        print(
            f"{found['engine']:<24}{found['pictures']:<26}{found['ok']:>6}"
            f"{found['worker_mib']:>12}{found['with_decoders_mib']:>18}"
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
