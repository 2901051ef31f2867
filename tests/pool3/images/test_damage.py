"""Right pixels of odd files, and damage outside of the pixels, in decoding, queries and pools."""

from __future__ import annotations

import io
import json
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pool3.errors import PictureError
from pool3.gallery import draw_scene
from pool3.images.decode import decode
from pool3.images.open import as_picture, fetched_picture
from pool3.images.pool import DecodePool

SCENE = draw_scene(3, size=(60, 40))
SHARED = Path(__file__).resolve().parents[4] / "shared" / "cases"
NAMED = {"pam_rgba.pam": "PAM"}
HARMLESS = {"gif_offset.gif", "leading_ff.jpg", "preview_first.tif", "ref.png"}


def gif(canvas: tuple[int, int], box: tuple[int, int, int, int], *, transparent: bool) -> bytes:
    """One red frame at `box` of a canvas whose background is blue."""
    left, top, right, bottom = box
    frame = Image.new("P", (right - left, bottom - top), 1)
    file = io.BytesIO()
    frame.putpalette([0, 0, 255, 255, 0, 0])
    frame.save(file, "GIF", background=0, **({"transparency": 0} if transparent else {}))
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack("<HH", *canvas)
    at = data.index(b"\x2c")
    data[at + 1 : at + 5] = struct.pack("<HH", left, top)
    return bytes(data)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("box", [(2, 1, 6, 5), (0, 0, 3, 3), (0, 0, 8, 7), (4, 3, 8, 7)])
def test_outside_of_its_first_frame_a_gif_is_transparent(
    box: tuple[int, int, int, int], transparent: bool
) -> None:
    left, top, right, bottom = box
    expected = np.full((7, 8, 3), 255)
    expected[top:bottom, left:right] = (255, 0, 0)
    actual = np.asarray(decode(gif((8, 7), box, transparent=transparent)).image)
    assert np.array_equal(actual, expected)


def bmp(pixels: bytes, bits: int, masks: tuple[int, ...], header: int) -> bytes:
    """A BMP of two pixels with bit fields."""
    info = struct.pack("<IiiHHIIiiII", header, 2, 1, 1, bits, 3, len(pixels), 0, 0, 0, 0)
    fields = struct.pack(f"<{len(masks)}I", *masks)
    info = (info + fields).ljust(max(header, 40 + len(fields)), b"\0")
    return (
        b"BM"
        + struct.pack("<IHHI", 14 + len(info) + len(pixels), 0, 0, 14 + len(info))
        + (info + pixels)
    )


FIELDS = {
    "565": (struct.pack("<HH", 0xF800, 0x07E0), 16, (0xF800, 0x07E0, 0x1F), 40),
    "555": (struct.pack("<HH", 0x7C00, 0x03E0), 16, (0x7C00, 0x03E0, 0x1F), 40),
    "xrgb": (struct.pack("<II", 0xFF0000, 0xFF00), 32, (0xFF0000, 0xFF00, 0xFF), 40),
    "v5": (
        struct.pack("<II", 0xFFFF0000, 0xFF00FF00), 32,
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 124,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_bit_fields_of_a_bmp_are_red_and_green(name: str) -> None:
    actual = np.asarray(decode(bmp(*FIELDS[name])).image)
    assert actual[0].tolist() == [[255, 0, 0], [0, 255, 0]]


def test_bit_fields_that_are_not_read_are_refused() -> None:
    ten_bits = (0x3FF00000, 0xFFC00, 0x3FF)
    with pytest.raises(PictureError) as caught:
        decode(bmp(struct.pack("<II", 0x3FF00000, 0xFFC00), 32, ten_bits, 40))
    assert caught.value.code == "unsupported_format"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n" + bytes(4), "Radiance HDR"),
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nENDHDR\n" + bytes(4), "PAM"),
        (b"PF\n1 1\n-1.0\n" + bytes(12), "PFM"),
    ],
)
def test_formats_that_are_not_read_are_named(data: bytes, name: str) -> None:
    with pytest.raises(PictureError, match=name) as caught:
        decode(data)
    assert caught.value.code == "unsupported_format"


def webp_cut_in_its_metadata() -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "maker" * 20
    file = io.BytesIO()
    SCENE.save(file, "WEBP", lossless=True, exif=exif)
    return file.getvalue()[:-60]


def test_a_webp_cut_in_its_metadata_is_decoded() -> None:
    decoded = decode(webp_cut_in_its_metadata())
    assert np.array_equal(np.asarray(decoded.image), np.asarray(SCENE))
    assert decoded.notes
    with pytest.raises(PictureError):
        decode(webp_cut_in_its_metadata()[:-200])


def damaged() -> bytes:
    file = io.BytesIO()
    SCENE.save(file, "PNG")
    return file.getvalue() + b"trailing"


def test_a_query_logs_the_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(damaged())
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(np.asarray(fetched_picture(path)), np.asarray(SCENE))
        assert np.array_equal(np.asarray(as_picture(damaged())), np.asarray(SCENE))
    assert [str(path) in line for line in caplog.messages] == [True, False]
    assert all("8 bytes follow its end" in line for line in caplog.messages)


def test_a_decoder_process_passes_the_notes_on() -> None:
    files = [("damaged", damaged()), ("whole", damaged()[:-8])]
    with DecodePool(processes=1, size=8, resize="pil-bilinear") as pool:
        outcomes = dict(pool.decode(files))
    assert outcomes["damaged"].notes == ("PNG: 8 bytes follow its end",)  # type: ignore[union-attr]
    assert outcomes["whole"].notes == ()  # type: ignore[union-attr]


def expectations() -> dict[str, list[list[list[int]]]]:
    path = SHARED / "decode" / "expect.json"
    if not path.is_file():
        return {}
    return {name: case["expect"] for name, case in json.loads(path.read_text()).items()}


@pytest.mark.parametrize(("name", "expected"), list(expectations().items()))
def test_a_shared_case_has_its_pixels_or_is_named(
    name: str, expected: list[list[list[int]]]
) -> None:
    data = (SHARED / "decode" / name).read_bytes()
    if name in NAMED:
        with pytest.raises(PictureError, match=NAMED[name]) as caught:
            decode(data)
        assert caught.value.code == "unsupported_format"
        return
    actual = np.asarray(decode(data).image).astype(int)
    assert np.abs(actual - expected).max() <= 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    sorted(path.name for path in (SHARED / "metadata").glob("*") if path.name != "gif_offset.gif"),
)
def test_a_shared_case_of_damage_is_the_picture(name: str) -> None:
    reference = np.asarray(decode((SHARED / "metadata" / "ref.png").read_bytes()).image)
    decoded = decode((SHARED / "metadata" / name).read_bytes())
    difference = np.abs(np.asarray(decoded.image).astype(int) - reference)
    assert difference.mean() < (10 if name.endswith(".jpg") else 0.01)
    assert bool(decoded.notes) == (name not in HARMLESS)
