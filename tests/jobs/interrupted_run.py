"""A driver in a process of its own, with small chunks and slow pictures, to be killed.

usage: python -m tests.jobs.interrupted_run MASTER INPUT OUTPUT MODEL

The last line on stdout is the report.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from pool3.images.decode import Picture, decode_resized

PICTURE_S = 0.15


def slow_decode(data: bytes, **options: Any) -> Picture:
    """Decode as ever, after a while."""
    time.sleep(PICTURE_S)
    return decode_resized(data, **options)


def main() -> None:
    """Run the job on small layout."""
    from pyspark.sql import SparkSession

    from jobs.extract_features import ExtractConfig, run
    from pool3.extract import layout

    master, source, output, model = sys.argv[1:]
    layout.MOST_PICTURES = layout.FEWEST_PICTURES = 5
    layout.CHUNK_S = 1.0
    spark = SparkSession.builder.master(master).config("spark.ui.enabled", "false").getOrCreate()
    report = run(
        spark,
        ExtractConfig(
            input=source,
            output=output,
            model=model,
            decode_function="tests.jobs.interrupted_run:slow_decode",
        ),
    )
    print(report.to_json())


if __name__ == "__main__":
    main()
