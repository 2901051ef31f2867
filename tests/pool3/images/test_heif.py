"""HEIC with and without its reader."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pool3.errors import PictureError
from pool3.gallery import draw_scene
from pool3.images.decode import DecodeLimits, Picture, decode
from pool3.images.formats import heif_available
from pool3.images.pool import DecodePool

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
assert heif_available()  # from here on Pillow can write it too
SCENE = draw_scene(3, size=(120, 80))
BEGINNING = b"\0\0\0\x18ftypheic" + bytes(12)


def heic(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "HEIF", quality=90, **options)
    return file.getvalue()


def code_of(data: bytes, **limits: int) -> str:
    with pytest.raises(PictureError) as caught:
        decode(data, limits=DecodeLimits(**limits))
    return caught.value.code


def test_it_comes_back_nearly_as_it_was() -> None:
    decoded = decode(heic(SCENE))
    assert decoded.format == "HEIF"
    assert np.abs(np.asarray(decoded.image, float) - np.asarray(SCENE)).mean() < 6


def test_decoder_processes_read_it_with_its_thumbnail() -> None:
    with DecodePool(processes=1, size=8, resize="pil-bilinear", thumbnail_side=60) as pool:
        [(_, picture)] = pool.decode([(0, heic(SCENE))])
    assert isinstance(picture, Picture)
    assert (picture.width, picture.height, picture.format) == (120, 80, "HEIF")
    assert picture.thumbnail is not None
    assert Image.open(io.BytesIO(picture.thumbnail)).size == (60, 40)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (3, Image.Transpose.ROTATE_180),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_it_is_turned_upright_once(orientation: int, turn: Image.Transpose) -> None:
    stored = SCENE.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(heic(stored, exif=exif.tobytes())).image
    assert found.size == SCENE.size
    assert np.abs(np.asarray(found, float) - np.asarray(SCENE)).mean() < 6


def test_transparent_pixels_are_white() -> None:
    clear = SCENE.convert("RGBA")
    clear.putalpha(0)
    assert np.asarray(decode(heic(clear)).image).min() > 250


def test_limits_hold() -> None:
    assert code_of(heic(SCENE), max_pixels=120 * 80 - 1) == "too_many_pixels"
    assert decode(heic(SCENE), limits=DecodeLimits(max_pixels=120 * 80)).image.size == SCENE.size


def test_damage_is_an_error_and_half_a_file_is_truncated() -> None:
    data = heic(SCENE)
    for tenths in range(1, 10):
        assert code_of(data[: len(data) * tenths // 10]) == "truncated"
    assert code_of(BEGINNING) == "corrupt"


@pytest.mark.slow
def test_memory_follows_the_pixels_in_flight() -> None:
    data = heic(draw_scene(1, size=(240, 160)).resize((2400, 1600)).convert("RGBA"))
    announced: list[int] = []
    decode(data, admit=announced.append)
    with DecodePool(processes=1, size=32, resize="pil-bilinear") as pool:
        list(pool.decode([(0, heic(SCENE))]))
        before = peak_bytes(pool.pids[0])
        [(_, found)] = pool.decode([(0, data)])
        used = peak_bytes(pool.pids[0]) - before - 2 * len(data)
    assert isinstance(found, Picture)
    assert used <= 9.5 * announced[0]


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def test_without_its_reader_the_extra_is_named() -> None:
    script = """if True:
        import sys
        sys.modules["pillow_heif"] = None
        from pool3.images.decode import decode
        from pool3.errors import PictureError
        try:
            decode(sys.stdin.buffer.read())
        except PictureError as error:
            print(error.code, error.detail)
    """
    done = subprocess.run(
        [sys.executable, "-c", script], input=heic(SCENE), capture_output=True, check=True
    )
    told = done.stdout.decode()
    assert told.startswith("unsupported_format HEIC")
    assert "pip install '.[heif]'" in told


def test_the_reader_is_loaded_for_heic_alone() -> None:
    script = """if True:
        import io, sys
        from PIL import Image
        from pool3.images.decode import decode
        file = io.BytesIO()
        Image.new("RGB", (4, 3)).save(file, "AVIF")
        decode(file.getvalue())
        print("pillow_heif" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"False\n"
