"""Large JPEGs are decoded at a fraction of their size, which changes features little."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pool3.engines import load_engine
from pool3.engines.fidelity import LIMIT, centred_difference
from pool3.images.decode import decode, decode_resized, draft_side, resized
from pool3.models import load_model

SIZE = 299


def mosaic(photos: list[Path], across: int) -> Image.Image:
    """Join photos, their pixels as they are, into a picture of a camera's size."""
    canvas = Image.new("RGB", (320 * across, 240 * across))
    for number in range(across * across):
        with Image.open(photos[number % len(photos)]) as photo:
            small = photo.convert("RGB").resize((320, 240))
        canvas.paste(small, (320 * (number % across), 240 * (number // across)))
    return canvas


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def test_a_draft_keeps_three_times_the_side_of_the_input() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    image = Image.fromarray(noise).resize((2400, 1900), Image.Resampling.BICUBIC)
    side = draft_side(SIZE, "pil-bilinear")
    assert side == 3 * SIZE
    assert decode(jpeg(image), draft_side=side).image.size == (1200, 950)
    assert decode(jpeg(image.resize((1700, 1700))), draft_side=side).image.size == (1700, 1700)
    assert decode(jpeg(image)).image.size == (2400, 1900)
    png = io.BytesIO()
    image.save(png, "PNG", compress_level=0)
    assert decode(png.getvalue(), draft_side=side).image.size == (2400, 1900)


def test_sizes_are_those_of_the_original_and_thumbnails_as_large_as_requested() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    data = jpeg(Image.new("RGB", (2400, 1900), (9, 99, 199)), exif=exif.tobytes())
    picture = decode_resized(data, size=SIZE, resize="pil-bilinear", thumbnail_side=1500)
    assert (picture.width, picture.height) == (1900, 2400)
    assert picture.thumbnail is not None
    assert max(Image.open(io.BytesIO(picture.thumbnail)).size) == 1500


def test_a_resize_that_picks_pixels_has_no_drafts() -> None:
    assert draft_side(SIZE, "tf1-bilinear") is None


@pytest.mark.slow  # the network on eight pictures of a camera's size, twice
def test_drafts_change_features_within_the_limit(shared_data: Path) -> None:
    photos = sorted((shared_data / "flowers").glob("*/*.jpg"))
    large = [jpeg(mosaic(photos[40 * number :], 8 + number % 5)) for number in range(8)]
    drafted, full = [], []
    for data in large:
        assert decode(data, draft_side=draft_side(SIZE, "pil-bilinear")).image.width < 2000
        drafted.append(decode_resized(data, size=SIZE, resize="pil-bilinear").rgb)
        full.append(resized(decode(data).image, SIZE, "pil-bilinear"))
    engine = load_engine(
        load_model("seeded").graph, name="openvino", precision="float32", threads=2
    )
    difference = centred_difference(engine(np.stack(full)), engine(np.stack(drafted)))
    assert 0 < difference.max() <= LIMIT


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_what_is_missing_is_noticed_in_a_draft_too(cut: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2000, 2400, 3), np.uint8)
    data = jpeg(Image.fromarray(noise))
    with pytest.raises(Exception, match="truncated"):
        decode(data[: int(cut * len(data))], draft_side=897)
