from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pool3.decode import decode
from pool3.gallery import draw_scene
from pool3.png_text import SIGNATURE, without_text

SCENE = draw_scene(3, size=(60, 40))
TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


kinds = st.sampled_from([*TEXT, b"IHDR", b"IDAT", b"eXIf", b"tRNS", b"IEND"])
chunks = st.lists(st.tuples(kinds, st.binary(max_size=20)), max_size=8)


@given(chunks, st.binary(max_size=30))
def test_all_but_text_stays_as_it_was(parts: list[tuple[bytes, bytes]], rest: bytes) -> None:
    rest = b"\xff\xff\xff\xff" + rest  # a chunk that is longer than the file
    data = SIGNATURE + b"".join(chunk(*part) for part in parts) + rest
    kept = b"".join(chunk(*part) for part in parts if part[0] not in TEXT)
    assert without_text(data) == SIGNATURE + kept + rest


@given(st.binary(max_size=60))
def test_what_has_no_text_is_not_copied(data: bytes) -> None:
    assert without_text(data) is data
    file = SIGNATURE + chunk(b"IHDR", data)
    assert without_text(file) is file


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_text_that_turns_the_picture_still_does(kind: bytes) -> None:
    if kind == b"zTXt":
        exif = Image.Exif()
        exif[0x0112] = 6
        block = b"\nexif\n%8d\n" % len(exif.tobytes()) + exif.tobytes().hex().encode()
        text = b"Raw profile type exif\0\0" + zlib.compress(block)
    else:
        text = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'
    info = PngImagePlugin.PngInfo()
    info.add(kind, text)
    info.add_text("Comment", "x" * 2_000_000, zip=True)
    file = io.BytesIO()
    SCENE.save(file, "PNG", pnginfo=info)
    assert len(without_text(file.getvalue())) < len(file.getvalue())
    turned = np.asarray(SCENE.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(np.asarray(decode(file.getvalue()).image), turned)
