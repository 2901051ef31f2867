"""Truncated pictures and pictures with flipped bytes, from fixed seeds."""

from __future__ import annotations

import random
from collections.abc import Iterator

from PIL import Image

from tests.hostile.made import OK, SCENE, Made, made, saved

SEEDS = 200
DAMAGE = ("truncated", "corrupt", "unsupported_format", "too_many_pixels", "not_an_image")
WHOLE = {
    "jpg": saved(SCENE, "JPEG", quality=90),
    "progressive.jpg": saved(SCENE, "JPEG", progressive=True),
    "png": saved(SCENE, "PNG"),
    "gif": saved(SCENE, "GIF"),
    "webp": saved(SCENE, "WEBP", lossless=True),
    "lossy.webp": saved(SCENE, "WEBP"),
    "tiff": saved(SCENE, "TIFF"),
    "lzw.tiff": saved(SCENE, "TIFF", compression="tiff_lzw"),
    "bmp": saved(SCENE, "BMP"),
    "avif": saved(SCENE, "AVIF"),
    "jp2": saved(SCENE, "JPEG2000"),
    "ppm": saved(SCENE, "PPM"),
}


def truncated() -> Iterator[Made]:
    """Each format cut at each tenth: what is left of it is no picture."""
    for kind, data in WHOLE.items():
        for tenths in range(1, 10):
            name = f"truncated-{tenths}0.{kind}"
            yield made(name, data[: len(data) * tenths // 10], "truncated")


def flipped() -> Iterator[Made]:
    """A JPEG with one to ten bytes changed: shown or not, it is a row."""
    for seed in range(SEEDS):
        rng = random.Random(seed)
        yield made(f"flipped-{seed:03}.jpg", flip(WHOLE["jpg"], rng), OK, *DAMAGE)


def flipped_formats() -> Iterator[Made]:
    """The other formats, a few seeds each."""
    for kind, data in WHOLE.items():
        for seed in range(10):
            rng = random.Random(seed)
            yield made(f"flipped-{seed}.{kind}", flip(data, rng), OK, *DAMAGE)


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 10)):
        changed[rng.randrange(len(changed))] ^= rng.randint(1, 255)
    return bytes(changed)


def noise() -> Iterator[Made]:
    """Bytes at random, bare and after each format's own beginning."""
    rng = random.Random(0)
    yield made("noise.jpg", b"\x00\x00" + rng.randbytes(5000), "not_an_image")
    for kind, data in WHOLE.items():
        yield made(f"noise-after-12.{kind}", data[:12] + rng.randbytes(5000), *DAMAGE)


def leftovers() -> Iterator[Made]:
    """Whole pictures with more behind them, and two in one file."""
    tail = b"trailing bytes " * 1000
    for kind in ("jpg", "png", "gif", "webp", "tiff"):
        yield made(f"tail.{kind}", WHOLE[kind] + tail, OK)
    yield made("two.jpg", WHOLE["jpg"] * 2, OK)
    for name, kind in (("two.mpo", "MPO"), ("pages.tiff", "TIFF")):
        pages = [Image.new("RGB", (9, 9)) for _ in range(2)]
        yield made(name, saved(SCENE.copy(), kind, save_all=True, append_images=pages), OK)
