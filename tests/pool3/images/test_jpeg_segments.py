"""JPEGs whose pixels are whole and whose other segments are damaged."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pool3.errors import PictureError
from pool3.gallery import draw_scene
from pool3.images.decode import decode, decode_resized
from pool3.images.open import as_picture

SCENE = draw_scene(3, size=(90, 60))


def jpeg(**options: Any) -> bytes:
    file = io.BytesIO()
    SCENE.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


WHOLE = jpeg()
BARE = WHOLE[:2] + WHOLE[2 + 18 :]  # without JFIF
PIXELS = np.asarray(Image.open(io.BytesIO(WHOLE)))
EXIF = b"Exif\0\0"
DAMAGE = {
    "JFIF": BARE[:2] + segment(0xE0, b"JFIF\0") + BARE[2:],
    "JFIF of 10": BARE[:2] + segment(0xE0, b"JFIF\0\1\1\0\0\1") + BARE[2:],
    "Adobe": WHOLE[:2] + segment(0xEE, b"Adobe") + WHOLE[2:],
    "Adobe of 9": WHOLE[:2] + segment(0xEE, b"Adobe\0\x64\0\0") + WHOLE[2:],
    "EXIF": WHOLE[:2] + segment(0xE1, EXIF + b"garbage that is long") + WHOLE[2:],
    "EXIF outside": WHOLE[:2] + segment(0xE1, EXIF + b"MM\0*\0\0\xff\xff") + WHOLE[2:],
    "EXIF empty": WHOLE[:2] + segment(0xE1, EXIF) + WHOLE[2:],
    "profile piece": WHOLE[:2] + segment(0xE2, b"ICC_PROFILE\0\1\2" + bytes(99)) + WHOLE[2:],
    "profile": WHOLE[:2] + segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(99)) + WHOLE[2:],
    "profile empty": WHOLE[:2] + segment(0xE2, b"ICC_PROFILE\0") + WHOLE[2:],
    "index": WHOLE[:2] + segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\0\1") + WHOLE[2:],
    "Photoshop": WHOLE[:2]
    + segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\xff\xff")
    + WHOLE[2:],
    "trailing": WHOLE + b"x" * 5000,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_segment_costs_no_picture_and_is_named(name: str) -> None:
    decoded = decode(DAMAGE[name])
    assert np.array_equal(np.asarray(decoded.image), PIXELS)
    assert decoded.notes, name
    assert np.array_equal(np.asarray(as_picture(DAMAGE[name])), PIXELS)
    assert decode_resized(DAMAGE[name], size=8, resize="pil-bilinear").notes == decoded.notes


def test_a_whole_file_has_no_notes() -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    file = io.BytesIO()
    SCENE.save(file, "MPO", save_all=True, append_images=[SCENE], exif=exif)
    for data in (WHOLE, BARE, jpeg(exif=exif.tobytes()), jpeg(progressive=True), file.getvalue()):
        assert decode(data).notes == ()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cut", [1, 40, 500])
def test_an_mpo_whose_second_picture_is_cut_is_its_first(cut: int) -> None:
    file = io.BytesIO()
    SCENE.save(file, "MPO", save_all=True, append_images=[SCENE], quality=90)
    decoded = decode(file.getvalue()[:-cut])
    assert np.array_equal(np.asarray(decoded.image), PIXELS)
    assert any("index" in note for note in decoded.notes)


VARIANTS: list[dict[str, Any]] = [
    {}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3},
    {"optimize": True}, {"restart_marker_rows": 1, "progressive": True},
]  # fmt: skip


@pytest.mark.parametrize("options", VARIANTS)
def test_without_its_end_marker_it_is_decoded_if_all_pixels_are_there(
    options: dict[str, Any],
) -> None:
    whole = jpeg(**options)
    decoded = decode(whole[:-2])
    assert np.array_equal(np.asarray(decoded.image), np.asarray(Image.open(io.BytesIO(whole))))
    assert any("end marker" in note for note in decoded.notes)


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("cut", [4, 5, 8, 20, 100, 1000])
def test_missing_pixels_stay_a_failure(options: dict[str, Any], cut: int) -> None:
    with pytest.raises(PictureError) as caught:
        decode(jpeg(**options)[:-cut])
    assert caught.value.code == "truncated"


def test_a_progressive_file_without_its_last_scans_stays_a_failure() -> None:
    whole = jpeg(progressive=True)
    scans = [at for at in range(len(whole) - 1) if whole[at : at + 2] == b"\xff\xda"]
    for at in scans[1:]:
        cut = whole[:at]
        while cut[-2:-1] != b"\xff" and b"\xff\xc4" in cut[-300:]:
            cut = cut[: cut.rindex(b"\xff\xc4")]
        for data in (whole[:at], cut):
            with pytest.raises(PictureError) as caught:
                decode(data)
            assert caught.value.code == "truncated"


def test_a_grey_file_of_one_colour_is_not_completed() -> None:
    """Its missing blocks would be filled with what was there."""
    file = io.BytesIO()
    Image.new("L", (640, 480), 128).save(file, "JPEG")
    whole = file.getvalue()
    assert (np.asarray(decode(whole[:-2]).image) == 128).all()
    for cut in (10, 100, 1000):
        with pytest.raises(PictureError):
            decode(whole[:-cut])


def test_12_bits_are_named() -> None:
    at = WHOLE.index(b"\xff\xc0") + 4
    data = WHOLE[: at - 3] + b"\xc1" + WHOLE[at - 2 : at] + b"\x0c" + WHOLE[at + 1 :]
    for size in (data, data[: len(data) // 2]):
        with pytest.raises(PictureError, match="12-bit") as caught:
            decode(size)
        assert caught.value.code == "unsupported_format"
