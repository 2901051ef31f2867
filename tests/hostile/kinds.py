"""Unusual but valid pictures, and files that only look like pictures."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageChops

from pool3.images.formats import heif_available
from tests.hostile.bombs import chunk, png
from tests.hostile.damaged import WHOLE
from tests.hostile.made import OK, SCENE, Made, made, saved

KINDS = {
    "jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP",
    "avif": "AVIF", "jp2": "JPEG2000", "ppm": "PPM",
}  # fmt: skip
PRETENDERS = {
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "unsupported_format"),
    "entities": (
        b'<!DOCTYPE x [<!ENTITY a "ab"><!ENTITY b "&a;">]>\n<svg>&b;</svg>', "unsupported_format",
    ),
    "pdf": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "unsupported_format"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "unsupported_format"),
    "binary-eps": (b"\xc5\xd0\xd3\xc6" + bytes(40), "unsupported_format"),
    "html": (b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>", "not_an_image"),
    "text": (b"dear diary\n" * 20, "not_an_image"),
    "json": (b'{"error": "AccessDenied"}', "not_an_image"),
    "xml": (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "not_an_image"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "not_an_image"),
    "zip": (b"PK\x03\x04" + bytes(60), "not_an_image"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), "not_an_image"),
    "program": (b"\x7fELF\x02\x01\x01" + bytes(60), "not_an_image"),
    "video": (b"\0\0\0\x18ftypisom" + bytes(60), "not_an_image"),
    "zeros": (bytes(10_000), "not_an_image"),
    "one-byte": (b"\xff", "not_an_image"),
    "psd": (b"8BPS\0\1" + bytes(60), "unsupported_format"),
    "ico": (b"\0\0\1\0\1\0" + bytes(60), "unsupported_format"),
}  # fmt: skip

HEIC = base64.b64decode(
    b"AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAWltZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAA"
    b"AAAAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABjQABAAAAAAAAABoAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAAB"
    b"AABodmMxAAAAAA5waXRtAAAAAAABAAAA6WlwcnAAAADKaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADw"
    b"NgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAA"
    b"AAMDIAAAAwAhYgABAAZEAcFzwIkAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAQAAAAAEAAAAwAAAAAQAAAA"
    b"AAAAAC////8AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAF2lwbWEAAAAAAAAAAQABBIECBIMAAAAibWRhdAAAABYoAa8Z"
    b"gO9Jpb//3llf6lS/4irWmPm4"
)


def telephones() -> Iterator[Made]:
    """HEIC, which is read where the extra for it is installed and named where it is not."""
    readable = heif_available()
    yield made("photo.heic", HEIC, OK if readable else "unsupported_format")
    yield made("photo.jpg", HEIC, OK if readable else "unsupported_format")
    beginning = b"\0\0\0\x18ftypheic" + bytes(12)
    yield made("beginning.heic", beginning, "corrupt" if readable else "unsupported_format")
    for tenths in range(1, 10):
        cut = HEIC[: len(HEIC) * tenths // 10]
        yield made(
            f"truncated-{tenths}0.heic", cut, "truncated" if readable else "unsupported_format"
        )


def pretenders() -> Iterator[Made]:
    """What other programs left under the name of a picture."""
    yield made("empty.jpg", b"", "empty")
    for name, (data, code) in PRETENDERS.items():
        yield made(f"{name}.jpg", data, code)


def sizes() -> Iterator[Made]:
    """The smallest and the thinnest pictures."""
    for suffix, kind in KINDS.items():
        yield made(f"1x1.{suffix}", saved(Image.new("RGB", (1, 1), (9, 8, 7)), kind), OK)
    for size in ((1, 30_000), (30_000, 1)):
        thin = Image.new("RGB", size, (9, 8, 7))
        for suffix in ("jpg", "png", "gif", "tiff", "bmp", "ppm"):
            yield made(f"{size[0]}x{size[1]}.{suffix}", saved(thin, KINDS[suffix]), OK)


def depths() -> Iterator[Made]:
    """Sixteen bits, one bit, floats, palettes, and what has no colours of its own."""
    ramp = np.linspace(0, 65_535, 64, dtype=np.uint16).reshape(8, 8)
    yield made("grey-16.png", saved(Image.fromarray(ramp), "PNG"), OK)
    yield made("grey-16.tiff", saved(Image.fromarray(ramp), "TIFF"), OK)
    yield made("rgb-16.png", _deep_png(2, 3), OK)
    yield made("rgba-16.png", _deep_png(6, 4), OK)
    yield made("grey-alpha-16.png", _deep_png(4, 2), OK)
    yield made("rgb-16.ppm", b"P6 8 8 65535\n" + bytes(range(128)) * 3, OK)
    for mode in ("1", "L", "LA", "P", "RGBA"):
        yield made(f"{mode}.png", saved(SCENE.convert(mode), "PNG"), OK)
    for mode in ("I", "F", "CMYK", "LAB", "YCbCr"):
        picture = SCENE.convert("L" if mode in "IF" else "RGB")
        picture = Image.merge("LAB", picture.split()) if mode == "LAB" else picture.convert(mode)
        yield made(f"{mode}.tiff", saved(picture, "TIFF"), OK)
    lost = b"\x01\x02\x03" * 4
    palette = png(8, 8, bytes([0, *range(100, 108)]) * 8, before=chunk(b"PLTE", lost))
    yield made("short-palette.png", palette[:25] + b"\x03" + palette[26:], "corrupt", OK)


def _deep_png(colour: int, samples: int) -> bytes:
    row = b"\0" + bytes(range(2 * samples * 8))
    data = png(8, 8, row * 8)
    header = struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)
    return data[:8] + chunk(b"IHDR", header) + data[33:]


def inks() -> Iterator[Made]:
    """Four inks as JPEG, straight and as YCCK, with the marker that tells which and without."""
    for name, data in four_inks().items():
        yield made(f"{name}.jpg", data, OK)


def four_inks() -> dict[str, bytes]:
    cmyk = saved(SCENE.convert("CMYK"), "JPEG", quality=95)
    cyan, magenta, yellow, black = SCENE.convert("CMYK").split()
    inks = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    stored = (*map(ImageChops.invert, inks), black)  # Pillow inverts all four as it writes them
    ycck = saved(Image.merge("CMYK", stored), "JPEG", quality=95)
    marker = ycck.index(b"Adobe")
    told = ycck[: marker + 11] + b"\x02" + ycck[marker + 12 :]
    return {
        "cmyk": cmyk,
        "cmyk-unmarked": _unmarked(cmyk),
        "ycck": told,
        "ycck-unmarked": _unmarked(ycck),
    }


def _unmarked(jpeg: bytes) -> bytes:
    """A JPEG without its Adobe segment."""
    start = jpeg.index(b"\xff\xee")
    (length,) = struct.unpack_from(">H", jpeg, start + 2)
    return jpeg[:start] + jpeg[start + 2 + length :]


def extensions() -> Iterator[Made]:
    """Pictures under another format's name, and under none."""
    wrong = {"jpg": "png", "png": "jpg", "gif": "jpeg", "webp": "gif", "tiff": "JPG", "avif": "bmp"}
    for right, name in wrong.items():
        yield made(f"{right}-as.{name}", WHOLE[right], OK)
    yield made("no-extension", WHOLE["jpg"], OK)
    yield made("picture.txt", WHOLE["png"], OK)
    yield made("picture.jpg.exe", WHOLE["jpg"], OK)


def names() -> Iterator[Made]:
    """Names that are awkward in a uri, in a terminal, in a table."""
    awkward = [
        "two  words.jpg", " leading.jpg", "trailing ", "line\nfeed.jpg", "tab\t.jpg", "100%.jpg",
        "%20.jpg", "%00.jpg", "%2e%2e%2f.jpg", "a#b.jpg", "a?b=c.jpg", "a&b.jpg", "a+b.jpg",
        "back\\slash.jpg", "quote'\".jpg", "$(touch x).jpg", "`x`.jpg", "-rf.jpg", "~.jpg", "*.jpg",
        "[a-z].jpg", "{a,b}.jpg", "s3:bucket.jpg", "user@host.jpg", "a..jpg", "=1+1.jpg",
        "\N{GRINNING FACE}.jpg", "caf\N{LATIN SMALL LETTER E WITH ACUTE}.jpg", "cafe\u0301.jpg",
        "\u202egpj.exe", "\x1b[31mred.jpg", "\x7f.jpg", "null.jpg", "NaN", "n" * 246 + ".jpg",
        "\N{GRINNING FACE}" * 60 + ".jpg",
    ]  # fmt: skip
    for name in awkward:
        yield made(name, WHOLE["jpg"], OK)
