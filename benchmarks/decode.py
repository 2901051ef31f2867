"""Pictures per second and core from file to the model's input, by decoder and size of picture.

usage: python -m benchmarks.decode PICTURES [--limit N] [--json FILE]

Each decoder reads the same JPEG files, from memory, in one thread; its CPU time counts, since what
else a machine does would change the clock on the wall. The photos as they are make up the classes
up to a megapixel; larger ones are the same photos side by side, for want of large photos that may
be passed on. `pool3` is what extraction calls, `pool` the same in one process of the pool, with
the CPU time of both sides. `draft` lets libjpeg scale by powers of two down to no less than twice
the input. A decoder that is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

SIZE = 299
RESIZE = "pil-bilinear"
ROUNDS = 4
LARGE_MEGAPIXELS = (2, 8, 24)

Run = Callable[[list[bytes]], None]
Clock = Callable[[], float]


def pool3_run() -> tuple[Run, Clock]:
    """Decode as the library does, in this process."""
    from pool3.images.decode import decode_resized

    return each(lambda data: decode_resized(data, size=SIZE, resize=RESIZE)), time.process_time


def pool_run() -> tuple[Run, Clock]:
    """Decode in a process of its own, with shared memory and a deadline."""
    from pool3.images.pool import DecodePool

    pool = DecodePool(processes=1, size=SIZE, resize=RESIZE)

    def run(files: list[bytes]) -> None:
        for _ in pool.decode(enumerate(files)):
            pass

    return run, lambda: time.process_time() + pool.cpu_s


def pillow_run() -> tuple[Run, Clock]:
    """Decode by Pillow without checks, turns or colour."""
    import numpy as np
    from PIL import Image

    def decode(data: bytes) -> None:
        image = Image.open(io.BytesIO(data))
        np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    return each(decode), time.process_time


def draft_run() -> tuple[Run, Clock]:
    """Decode by Pillow, scaled by libjpeg first."""
    import numpy as np
    from PIL import Image

    def decode(data: bytes) -> None:
        image = Image.open(io.BytesIO(data))
        image.draft(None, (2 * SIZE, 2 * SIZE))
        np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    return each(decode), time.process_time


def tensorflow_run() -> tuple[Run, Clock]:
    """Decode and resize by TensorFlow, antialiased, on one thread."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    def decode(data: bytes) -> None:
        pixels = tf.io.decode_jpeg(data, channels=3)
        tf.image.resize(pixels, (SIZE, SIZE), antialias=True).numpy()

    return each(decode), time.process_time


def opencv_run(*, by_pillow: bool, linear: bool) -> Callable[[], tuple[Run, Clock]]:
    """Decode by OpenCV; linear takes four neighbours, area averages."""

    def make() -> tuple[Run, Clock]:
        import cv2  # type: ignore[import-not-found]
        import numpy as np
        from PIL import Image

        cv2.setNumThreads(1)
        how = cv2.INTER_LINEAR if linear else cv2.INTER_AREA

        def decode(data: bytes) -> None:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
            if by_pillow:
                image = Image.fromarray(pixels)
                np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
            else:
                cv2.resize(pixels, (SIZE, SIZE), interpolation=how)

        return each(decode), time.process_time

    return make


DECODERS: dict[str, Callable[[], tuple[Run, Clock]]] = {
    "pool3": pool3_run,
    "pool": pool_run,
    "pillow": pillow_run,
    "pillow draft": draft_run,
    "tensorflow": tensorflow_run,
    "opencv, resized by pillow": opencv_run(by_pillow=True, linear=False),
    "opencv area": opencv_run(by_pillow=False, linear=False),
    "opencv linear": opencv_run(by_pillow=False, linear=True),
}


def each(decode: Callable[[bytes], object]) -> Run:
    """Decode files one after another."""

    def run(files: list[bytes]) -> None:
        for data in files:
            decode(data)

    return run


def size_classes(folder: Path, limit: int) -> dict[str, list[bytes]]:
    """Return JPEG files by size: the folder's own, and larger ones made of them."""
    from PIL import Image

    classes: dict[str, list[bytes]] = {"up to 0.1 MP": [], "0.1 to 0.25 MP": [], "to 1 MP": []}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})
    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
                megapixels = image.width * image.height / 1e6
                usual = image.format == "JPEG" and image.mode == "RGB"
        except (OSError, SyntaxError):
            continue  # damaged files have their place in the tests
        if usual and megapixels <= 1:
            name = list(classes)[(megapixels > 0.1) + (megapixels > 0.25)]
            if len(classes[name]) < limit:
                classes[name].append(path.read_bytes())
    photos = [data for files in classes.values() for data in files]
    for megapixels in LARGE_MEGAPIXELS if photos else ():
        count = max(2, min(limit, round(limit / megapixels / 4)))
        classes[f"{megapixels} MP"] = [side_by_side(photos, n, megapixels) for n in range(count)]
    return {name: files for name, files in classes.items() if files}


def side_by_side(photos: list[bytes], first: int, megapixels: int) -> bytes:
    """Return one large JPEG filled with photos at their own size, so their detail is kept."""
    from PIL import Image

    width = round(math.sqrt(megapixels * 1e6 * 4 / 3))
    height = width * 3 // 4
    page = Image.new("RGB", (width, height))
    top, number = 0, first * 17
    while top < height:
        left, lowest = 0, height
        while left < width:
            photo = Image.open(io.BytesIO(photos[number % len(photos)]))
            page.paste(photo, (left, top))
            left, lowest, number = left + photo.width, min(lowest, photo.height), number + 1
        top += lowest
    file = io.BytesIO()
    page.save(file, "JPEG", quality=90)
    return file.getvalue()


def measured(
    decoders: dict[str, tuple[Run, Clock]], classes: dict[str, list[bytes]]
) -> dict[str, dict[str, float]]:
    """Return pictures per second of CPU time by decoder and size, the best of some rounds.

    The decoders take turns in each round, so that what else the machine does meets them all.
    """
    best = {name: dict.fromkeys(classes, math.inf) for name in decoders}
    for size, files in classes.items():
        for _ in range(ROUNDS):
            for name, (run, clock) in decoders.items():
                run(files[:1])
                started = clock()
                run(files)
                best[name][size] = min(best[name][size], clock() - started)
    return {
        name: {size: len(files) / best[name][size] for size, files in classes.items()}
        for name in decoders
    }


def main() -> int:
    """Measure every decoder that is installed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("pictures", type=Path, metavar="PICTURES", help="folder of JPEG files")
    parser.add_argument("--limit", type=int, default=100, help="pictures of each size (100)")
    parser.add_argument("--json", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()
    classes = size_classes(options.pictures, options.limit)
    if not classes:
        print(f"no RGB JPEG files up to 1 MP below {options.pictures}", file=sys.stderr)
        return 2
    decoders = {}
    for name, make in DECODERS.items():
        try:
            decoders[name] = make()
        except ImportError as missing:
            print(f"{name} is left out: {missing}", file=sys.stderr)
    results = measured(decoders, classes)
    print("pictures per second and core")
    print(" " * 26 + "".join(f"{name:>16}" for name in classes))
    print(f"{'files':26}" + "".join(f"{len(files):>16}" for files in classes.values()))
    for name, found in results.items():
        print(f"{name:26}" + "".join(f"{found[size]:>16.1f}" for size in classes))
    ratio = {size: results["pool"][size] / results["pool3"][size] for size in classes}
    overhead = {
        size: 1e3 / results["pool"][size] - 1e3 / results["pool3"][size] for size in classes
    }
    print(f"{'pool / pool3':26}" + "".join(f"{ratio[size]:>16.2f}" for size in classes))
    print(f"{'ms a picture for the pool':26}" + "".join(f"{overhead[s]:>16.2f}" for s in classes))
    if options.json:
        report = {
            "pictures_per_core_s": results,
            "files": {size: len(files) for size, files in classes.items()},
            "pool_ratio": ratio,
            "pool_overhead_ms": overhead,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
