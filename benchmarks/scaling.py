"""Cost per picture as the work grows: the extract-features job on 100 to 10,000 pictures.

usage: python -m benchmarks.scaling PICTURES [--counts 100,1000,10000] [--json FILE]

The photos of a folder are linked as often as needed, under new names, so that every run meets the
same mixture. Start-up is set aside: a first run warms the workers, which keep their model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks.extract import CORES, WARM_UP, links, photos, session


def run(uris: list[str], count: int) -> dict[str, float]:
    """Extract `count` pictures; returns seconds and CPU seconds per picture."""
    from jobs.extract_features import ExtractConfig
    from jobs.extract_features import run as extract_features

    with tempfile.TemporaryDirectory() as folder:
        pictures = links(Path(folder) / "pictures", islice(cycle(uris), count))
        config = ExtractConfig(input=str(pictures), output=folder + "/table", model="seeded")
        started = time.monotonic()
        report = extract_features(session(), config)
        seconds = time.monotonic() - started
    return {
        "pictures": count,
        "ms_a_picture": 1000 * seconds / count,
        "cpu_ms_a_picture": 1000 * (report.cpu_s_per_image or 0.0),
    }


def main() -> None:
    """Measure each count and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", help="a folder of photos")
    parser.add_argument("--counts", default="100,1000,10000")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    uris = photos(arguments.pictures, None)
    run(uris, WARM_UP)
    figures = [run(uris, int(count)) for count in arguments.counts.split(",")]
    print(f"{CORES} cores\n\n{'pictures':>10}{'ms/picture':>14}{'CPU ms/picture':>18}")
    for found in figures:
        print(
            f"{found['pictures']:>10}{found['ms_a_picture']:>14.1f}"
            f"{found['cpu_ms_a_picture']:>18.1f}"
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
