from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pool3.errors import UsageError
from pool3.gallery import draw_scene
from pool3.images.decode import Picture, decode_resized
from pool3.images.pool import DecodePool
from pool3.images.thumbnails import thumbnail

SCENE = draw_scene(3, size=(300, 200))


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@settings(max_examples=60)
@given(width=st.integers(1, 3000), height=st.integers(1, 40), side=st.integers(1, 300))
def test_it_fits_the_side_keeps_the_proportions_and_is_never_larger(
    width: int, height: int, side: int
) -> None:
    small = opened(thumbnail(Image.new("RGB", (width, height)), side))
    assert (small.format, small.mode) == ("JPEG", "RGB")
    if max(width, height) <= side:
        assert small.size == (width, height)
        return
    share = side / max(width, height)
    assert max(small.size) == side
    for actual, exact in zip(small.size, (width * share, height * share), strict=True):
        assert actual == max(1, round(exact))


def test_it_looks_like_the_picture() -> None:
    small = np.asarray(opened(thumbnail(SCENE, 100)), float)
    expected = np.asarray(SCENE.resize((100, 67), Image.Resampling.LANCZOS), float)
    assert np.abs(small - expected).mean() < 5
    assert np.abs(small[:, ::-1] - expected).mean() > 10


def test_it_is_upright_and_tells_nothing_of_place_and_camera() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8825)[1] = "N"
    stored = SCENE.transpose(Image.Transpose.ROTATE_90)
    data = saved(stored, "JPEG", exif=exif.tobytes(), comment=b"secret", icc_profile=b"profile")
    picture = decode_resized(data, size=8, resize="pil-bilinear", thumbnail_side=60)
    small = opened(picture.thumbnail)
    assert small.size == (60, 40)
    assert not {"exif", "comment", "icc_profile"} & set(small.info)
    assert not small.getexif()
    expected = np.asarray(SCENE.resize((60, 40), Image.Resampling.LANCZOS), float)
    assert np.abs(np.asarray(small, float) - expected).mean() < 10


def test_what_hangs_on_a_picture_stays_with_it() -> None:
    annotated = SCENE.copy()
    annotated.info = {"comment": b"secret", "exif": b"Exif\0\0", "icc_profile": b"profile"}
    assert thumbnail(annotated, 60) == thumbnail(SCENE, 60)
    assert set(annotated.info) == {"comment", "exif", "icc_profile"}


def test_none_is_made_without_a_request() -> None:
    assert decode_resized(saved(SCENE), size=8, resize="pil-bilinear").thumbnail is None
    with DecodePool(processes=1, size=8, resize="pil-bilinear") as pool:
        [(_, picture)] = pool.decode([(0, saved(SCENE))])
    assert isinstance(picture, Picture)
    assert picture.thumbnail is None


def test_decoder_processes_make_the_same_whatever_its_length() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2100, 2100, 3), dtype=np.uint8)
    files = [saved(Image.fromarray(noise)), b"", saved(SCENE), saved(Image.new("RGB", (1, 9)))]
    with DecodePool(processes=2, size=8, resize="pil-bilinear", thumbnail_side=2048) as pool:
        actual = [
            outcome.thumbnail if isinstance(outcome, Picture) else None
            for _, outcome in pool.decode(enumerate(files * 2))
        ]
    expected = [
        data and decode_resized(data, size=8, resize="pil-bilinear", thumbnail_side=2048).thumbnail
        for data in files
    ]
    assert actual == [small or None for small in expected] * 2
    assert len(actual[0] or b"") > 1_000_000


@pytest.mark.parametrize("side", [0, -1, 2049])
def test_impossible_sides_are_refused(side: int) -> None:
    with pytest.raises(UsageError, match="thumbnails"):
        thumbnail(SCENE, side)
    with pytest.raises(UsageError, match="thumbnails"):
        DecodePool(processes=1, size=8, resize="pil-bilinear", thumbnail_side=side)
