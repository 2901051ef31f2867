"""PNGs: transparent colours compared at their depth, and damage that costs no picture."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from pool3.errors import PictureError
from pool3.gallery import draw_scene
from pool3.images.decode import decode
from pool3.images.open import as_picture

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SCENE = draw_scene(3, size=(60, 40))
GREY, RGB, PALETTE = 0, 2, 3


def chunk(kind: bytes, body: bytes, *, damaged: bool = False) -> bytes:
    checksum = zlib.crc32(kind + body) ^ damaged
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(rows: list[bytes], width: int, depth: int, colour: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"".join(
        [SIGNATURE, chunk(b"IHDR", header), *chunks, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    )


def scene_with(*before: bytes, after: bytes = b"", **options: Any) -> bytes:
    """The scene with further chunks before and after its pixels."""
    file = io.BytesIO()
    SCENE.save(file, "PNG", **options)
    data = file.getvalue()
    pixels, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    return data[:pixels] + b"".join(before) + data[pixels:end] + after + data[end:]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_grey_is_compared_at_its_depth(depth: int) -> None:
    top = 2**depth - 1
    levels = list(range(min(top + 1, 16)))
    bits = "".join(f"{level:0{depth}b}" for level in levels)
    bits += "0" * (-len(bits) % 8)
    row = int(bits, 2).to_bytes(len(bits) // 8)
    for key in levels:
        data = png([row], len(levels), depth, GREY, chunk(b"tRNS", struct.pack(">H", key)))
        expected = [255 if level == key else level * 255 // top for level in levels]
        assert np.asarray(decode(data).image)[0, :, 0].tolist() == expected


def test_a_transparent_16_bit_colour_is_compared_with_both_bytes() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 65536, (30, 40, 3)).astype(">u2")
    key = samples[5, 7].copy()
    samples[10:20] = key
    samples[20:25] = key ^ 1  # differs in the low bytes only
    rows = [row.tobytes() for row in samples]
    data = png(rows, 40, 16, RGB, chunk(b"tRNS", key.tobytes()))
    expected = (samples >> 8).astype(int)
    expected[(samples == key).all(axis=2)] = 255
    actual = np.asarray(decode(data).image).astype(int)
    assert np.abs(actual - expected).max() <= 1
    assert np.array_equal(np.asarray(as_picture(data)), actual)


def test_an_interlaced_16_bit_colour_is_compared_too() -> None:
    # One pixel is one pass; its neighbours are in others.
    samples = np.array([[[0x1234, 0x5678, 0x9ABC], [0x1235, 0x5678, 0x9ABC]]], ">u2")
    passes = b"\0" + samples[0, 0].tobytes() + b"\0" + samples[0, 1].tobytes()
    header = struct.pack(">IIBBBBB", 2, 1, 16, RGB, 0, 0, 1)
    key = chunk(b"tRNS", samples[0, 0].tobytes())
    pixels = chunk(b"IDAT", zlib.compress(passes))
    data = SIGNATURE + chunk(b"IHDR", header) + key + pixels + chunk(b"IEND", b"")
    assert np.asarray(decode(data).image)[0].tolist() == [[255, 255, 255], [0x12, 0x56, 0x9A]]


TEXT = zlib.compress(bytes(2_000_000))
DAMAGE = {
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + TEXT),
    "iTXt": chunk(b"iTXt", b"Comment\0\1\0\0\0" + TEXT),
    "tEXt": chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000),
    "checksum": chunk(b"tEXt", b"Comment\0x", damaged=True),
    "unknown": chunk(b"vpAg", b"\0" * 9, damaged=True),
    "pHYs": chunk(b"pHYs", b"\0" * 2),
    "gAMA": chunk(b"gAMA", b"\0"),
    "cHRM": chunk(b"cHRM", b"\0" * 5),
    "sRGB": chunk(b"sRGB", b""),
    "tIME": chunk(b"tIME", b"\0" * 3),
    "tRNS": chunk(b"tRNS", b"\0" * 2),
    "iCCP": chunk(b"iCCP", b"profile\0\0not compressed"),
    "iCCP-method": chunk(b"iCCP", b"profile\0\7" + zlib.compress(bytes(200))),
    "iCCP-bomb": chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(50_000_000))),
    "iCCP-empty": chunk(b"iCCP", b""),
    "eXIf": chunk(b"eXIf", b"MM\0*\0\0\xff\xff"),
    "acTL": chunk(b"acTL", b"\0"),
    "fcTL": chunk(b"fcTL", b"\0" * 4),
    "sBIT-and-more": chunk(b"sBIT", b"") + chunk(b"hIST", b"\0") + chunk(b"gAMA", b""),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_chunk_costs_no_picture_and_is_named(name: str) -> None:
    before = [scene_with(DAMAGE[name])]
    after = [] if name in {"tRNS", "iCCP"} else [scene_with(after=DAMAGE[name])]
    for data in before + after:
        decoded = decode(data)
        assert np.array_equal(np.asarray(decoded.image), np.asarray(SCENE))
        assert decoded.notes, name
        assert all(note.startswith(("PNG: ", "its colour profile")) for note in decoded.notes)


def test_its_end_and_what_follows_it_are_named() -> None:
    whole = scene_with()
    for data, words in (
        (whole + b"x" * 700, "700 bytes follow"),
        (whole[:-12], "end is missing"),
        (whole[:-6], "end is missing"),
    ):
        decoded = decode(data)
        assert np.array_equal(np.asarray(decoded.image), np.asarray(SCENE))
        assert any(words in note for note in decoded.notes)
    assert decode(whole).notes == ()


def test_a_wrong_checksum_of_whole_pixels_is_named() -> None:
    data = bytearray(scene_with())
    end = data.index(b"IEND") - 5
    data[end] ^= 255
    decoded = decode(bytes(data))
    assert np.array_equal(np.asarray(decoded.image), np.asarray(SCENE))
    assert "checksum" in decoded.notes[0]


def test_missing_pixels_stay_a_failure() -> None:
    whole = scene_with(DAMAGE["checksum"])
    start, end = whole.index(b"IDAT") + 4, whole.index(b"IEND") - 8
    half = (start + end) // 2
    with pytest.raises(PictureError) as caught:
        decode(whole[:half])
    assert caught.value.code == "truncated"
    body = whole[start:half]
    cut = whole[: start - 8] + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    with pytest.raises(PictureError):
        decode(cut)
