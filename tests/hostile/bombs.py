"""Small files that require many resources: pixels, frames, scans, tiles, tags, text."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import Image, PngImagePlugin

from tests.hostile.made import OK, SCENE, Made, made, saved

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, pixels: bytes = b"", *, before: bytes = b"", after: bytes = b""
) -> bytes:
    """An 8-bit grey PNG; `before` and `after` are chunks around its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(pixels))
    return PNG_SIGNATURE + header + before + body + after + chunk(b"IEND", b"")


def announced() -> Iterator[Made]:
    """Headers that claim more pixels than may be decoded."""
    yield made("60000.png", png(60_000, 60_000), "too_many_pixels")
    yield made("bare-header-60000.png", png(60_000, 60_000)[:33], "truncated")
    yield made("2-31.png", png(2**31 - 1, 2**31 - 1), "too_many_pixels")
    yield made("8000x8000.png", png(8000, 8000), "too_many_pixels")
    yield made("60000.ppm", b"P6 60000 60000 255\n" + bytes(100), "too_many_pixels")
    yield made(
        "60000.gif", _patched("GIF", 6, struct.pack("<HH", 60_000, 60_000)), "too_many_pixels"
    )
    yield made(
        "60000.bmp", _patched("BMP", 18, struct.pack("<ii", 60_000, 60_000)), "too_many_pixels"
    )
    jpeg = saved(SCENE, "JPEG")
    size = jpeg.index(b"\xff\xc0") + 5
    yield made("65535.jpg", jpeg[:size] + b"\xff" * 4 + jpeg[size + 4 :], "too_many_pixels")
    yield made("canvas-16384.webp", _canvas_webp(), "too_many_pixels")
    j2k = saved(SCENE, "JPEG2000", no_jp2=True)
    area = struct.pack(">II", 60_000, 60_000)
    yield made("60000.j2k", j2k[:8] + area + j2k[16:], "too_many_pixels", "corrupt")
    yield made("small-tiles.j2k", j2k[:24] + struct.pack(">II", 1, 1) + j2k[32:], OK, "corrupt")
    for name, size in (("0x0", (0, 0)), ("0x9", (0, 9))):
        yield made(f"{name}.png", png(*size), "corrupt")
    yield made("0.bmp", _patched("BMP", 18, bytes(8)), "corrupt")
    yield made("0.gif", _patched("GIF", 6, bytes(4)), OK, "corrupt")
    yield made("0.ppm", b"P6 0 0 255\n", "corrupt", "truncated")
    digits = b"P6 " + b"9" * 4000 + b" 1 255\n"
    yield made("many-digits.ppm", digits, "corrupt", "truncated")
    yield made("long-comment.ppm", b"P6 #" + b"x" * 500_000, "corrupt", "truncated")


def _patched(kind: str, at: int, value: bytes) -> bytes:
    data = saved(Image.new("P" if kind == "GIF" else "RGB", (8, 8)), kind)
    return data[:at] + value + data[at + len(value) :]


def _canvas_webp() -> bytes:
    other = Image.new("RGB", (8, 8), (255, 0, 0))
    data = saved(SCENE.resize((8, 8)), "WEBP", save_all=True, append_images=[other])
    return data[:24] + (16_383).to_bytes(3, "little") * 2 + data[30:]


def frames() -> Iterator[Made]:
    """Animations that are longer than anybody waits for; only the first frame counts."""
    yield made("10000-frames.gif", _long_gif(10_000), OK)
    yield made("10000-frames.png", _long_apng(10_000), OK)
    dots = [Image.new("RGB", (2, 2), (n, 0, 0)) for n in range(200)]
    yield made("200-frames.webp", saved(dots[0], "WEBP", save_all=True, append_images=dots[1:]), OK)
    yield made("200-pages.tiff", saved(dots[0], "TIFF", save_all=True, append_images=dots[1:]), OK)


def _long_gif(count: int) -> bytes:
    data = saved(Image.new("P", (8, 8), 1), "GIF")
    start = data.index(b"\x2c")  # the only frame, up to the trailer
    return data[:start] + data[start:-1] * count + b";"


def _long_apng(count: int) -> bytes:
    pixels = zlib.compress(bytes(9 * 8))
    control = struct.pack(">IIIIHHBB", 8, 8, 0, 0, 1, 10, 0, 0)
    more = b"".join(
        chunk(b"fcTL", struct.pack(">I", 2 * n - 1) + control)
        + chunk(b"fdAT", struct.pack(">I", 2 * n) + pixels)
        for n in range(1, count)
    )
    first = chunk(b"acTL", struct.pack(">II", count, 0)) + chunk(b"fcTL", bytes(4) + control)
    return png(8, 8, bytes(9 * 8), before=first, after=more)


def text() -> Iterator[Made]:
    """Pictures whose text is larger than they are; what unpacks to megabytes is left out."""
    bomb = zlib.compress(bytes(200_000_000), 9)
    pixels = bytes(9 * 8)
    plain = chunk(b"tEXt", b"Comment\0" + b"x" * 30_000_000)
    packed = chunk(b"zTXt", b"Comment\0\0" + bomb)
    unicode_text = chunk(b"iTXt", b"Comment\0\1\0\0\0" + bomb)
    many = chunk(b"tEXt", b"Comment\0" + b"x" * 1_000_000) * 80
    profile = chunk(b"iCCP", b"profile\0\0" + bomb)
    for name, chunks in {
        "plain": plain, "packed": packed, "unicode": unicode_text, "many": many, "profile": profile,
    }.items():  # fmt: skip
        yield made(f"text-{name}-before.png", png(8, 8, pixels, before=chunks), OK)
        if name != "profile":
            yield made(f"text-{name}-after.png", png(8, 8, pixels, after=chunks), OK)
    endless = struct.pack(">I", 2**31 - 1) + b"tEXt" + b"x" * 1000
    yield made("text-endless.png", png(8, 8, pixels, before=endless), "truncated", "corrupt")
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 3_000_000)
    yield made("text-3-million.png", saved(SCENE, "PNG", pnginfo=info), OK)
    comments = b"".join(b"\xff\xfe" + struct.pack(">H", 65_535) + bytes(65_533) for _ in range(300))
    jpeg = saved(SCENE, "JPEG")
    yield made("comments.jpg", jpeg[:2] + comments + jpeg[2:], OK)


def tags() -> Iterator[Made]:
    """TIFF directories that claim what is not there, or lead in circles."""
    whole = saved(SCENE, "TIFF")
    yield made(
        "huge-tag.tiff", _with_tag(2**32 - 1, 8), OK, "corrupt", "truncated", "too_many_pixels"
    )
    yield made("huge-tag-zero.tiff", _with_tag(2**31, 0), OK, "corrupt", "truncated")
    yield made("tag-20-mb.tiff", _with_tag(20_000_000, len(whole), bytes(20_000_000)), OK)
    start = struct.unpack_from("<I", whole, 4)[0]
    (entries,) = struct.unpack_from("<H", whole, start)
    end = start + 2 + 12 * entries
    circle = whole[:end] + struct.pack("<I", start) + whole[end + 4 :]
    yield made("circle.tiff", circle, OK)
    yield made(
        "65535-tags.tiff",
        whole[:start] + b"\xff\xff" + whole[start + 2 :],
        OK,
        "corrupt",
        "truncated",
    )
    yield made(
        "directory-outside.tiff",
        whole[:4] + b"\xff\xff\xff\x7f" + whole[8:],
        "truncated",
        "corrupt",
    )
    yield made("big.tiff", saved(SCENE, "TIFF", big_tiff=True), OK)
    empty = b"II*\0\x08\0\0\0" + bytes(6)
    yield made("no-tags.tiff", empty, "corrupt", "truncated")


def _with_tag(count: int, offset: int, tail: bytes = b"") -> bytes:
    """The scene with one more tag, of bytes, `count` of them at `offset`."""
    whole = saved(SCENE, "TIFF", software="abcdefgh")
    start = struct.unpack_from("<I", whole, 4)[0]
    (entries,) = struct.unpack_from("<H", whole, start)
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", whole, at)[0] == 305:
            entry = struct.pack("<HHII", 305, 2, count, offset or len(whole))
            return whole[:at] + entry + whole[at + 12 :] + tail
    raise LookupError("no tag to change")


def scans(count: int, side: int) -> bytes:
    """A progressive JPEG of one colour whose last pass, a few bytes, stands there many times."""
    data = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"
