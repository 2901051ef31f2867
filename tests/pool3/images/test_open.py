"""Pictures of queries: a PIL image gives the pixels that its file gives."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pool3.errors import PictureError
from pool3.images.decode import DecodeLimits
from pool3.images.open import as_picture


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int) -> Image.Image:
    coarse = np.random.default_rng(1).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def white_is_zero() -> bytes:
    """A 16-bit grey TIFF whose photometric interpretation Pillow does not apply."""
    grey = Image.fromarray(np.linspace(0, 65535, 12 * 8).reshape(8, 12).astype(np.uint16))
    return saved(grey, "TIFF", tiffinfo={262: 0})


def small_first_frame() -> bytes:
    """A GIF whose only frame covers a corner of its canvas; the rest is transparent."""
    data = bytearray(saved(Image.new("RGB", (8, 8), (200, 30, 30)), "GIF"))
    data[6:10] = (16).to_bytes(2, "little") * 2
    return bytes(data)


FILES = {
    "grey.tif": white_is_zero(),
    "corner.gif": small_first_frame(),
    "camera.jpg": saved(noise(2000, 1600), "JPEG", quality=90),
    "turned.jpg": saved(
        noise(64, 48),
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
    "clear.png": saved(noise(16, 8).convert("P"), "PNG", transparency=3),
}


@pytest.mark.parametrize("name", FILES)
def test_an_open_image_gives_the_pixels_of_its_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    expected = np.asarray(as_picture(path, draft_side=300))
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(as_picture(image, draft_side=300)), expected)
        image.load()  # the caller goes on with it
        assert image.size[0] > 0
    assert np.array_equal(np.asarray(as_picture(FILES[name], draft_side=300)), expected)


def test_pixels_in_memory_count_whatever_their_file_holds() -> None:
    image = Image.open(io.BytesIO(FILES["camera.jpg"]))
    image.paste((0, 0, 0), (0, 0, *image.size))
    assert not np.asarray(as_picture(image)).any()


def test_the_frame_that_was_chosen_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    image = Image.open(io.BytesIO(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])))
    image.seek(1)
    assert as_picture(image).getpixel((0, 0)) == (0, 0, 255)


def test_the_file_of_an_image_has_the_limits_of_files() -> None:
    image = Image.open(io.BytesIO(saved(Image.new("L", (8, 8)), "BMP")))
    image.fp.seek(0)
    assert as_picture(image).size == (8, 8)
    large = Image.open(io.BytesIO(saved(Image.new("1", (10_000, 6_000)), "PNG")))
    assert DecodeLimits().max_pixels < 10_000 * 6_000
    with pytest.raises(PictureError, match="too_many_pixels"):
        as_picture(large)
