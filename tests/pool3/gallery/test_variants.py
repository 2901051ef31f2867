from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pool3.gallery import draw_scene
from pool3.gallery.variants import VARIANT_SUFFIXES, variants
from pool3.images.decode import decode

SCENE = draw_scene(4, size=(120, 90))
FILES = variants(SCENE)


def opened(kind: str) -> Image.Image:
    return decode(FILES[kind]).image


def test_there_are_the_seven_kinds_and_each_is_a_readable_picture() -> None:
    kinds = {"crop", "rotation", "flip", "brightness", "resize", "watermark", "jpeg-quality-20"}
    assert set(FILES) == set(VARIANT_SUFFIXES) == kinds
    for kind, data in FILES.items():
        decoded = decode(data)
        assert decoded.format == ("JPEG" if VARIANT_SUFFIXES[kind] == ".jpg" else "PNG")
        assert data != FILES[next(other for other in FILES if other != kind)]


def test_variants_are_the_same_each_time() -> None:
    assert variants(SCENE) == FILES


def test_each_variant_is_what_its_name_says() -> None:
    original = np.asarray(SCENE, float)
    assert np.array_equal(np.asarray(opened("flip")), np.asarray(SCENE)[:, ::-1])
    assert np.array_equal(np.asarray(opened("crop")), np.asarray(SCENE)[9:81, 12:108])
    assert opened("resize").size == (48, 36)
    assert np.asarray(opened("brightness"), float).mean() > original.mean() * 1.1
    marked = np.abs(np.asarray(opened("watermark"), float) - original).max(axis=2) > 20
    assert 0 < marked.mean() < 0.2
    assert not marked[:45].any()
    rough = np.asarray(opened("jpeg-quality-20"), float)
    assert 0.5 < np.abs(rough - original).mean() < 20
    with Image.open(io.BytesIO(FILES["jpeg-quality-20"])) as jpeg:
        assert jpeg.quantization[0][0] > 30


def test_a_rotation_leaves_no_empty_corners() -> None:
    turned = variants(Image.new("RGB", (120, 90), (200, 200, 200)))["rotation"]
    assert np.asarray(decode(turned).image).min() > 190


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (30, 400)])
def test_small_and_narrow_pictures_have_variants_too(size: tuple[int, int]) -> None:
    for data in variants(Image.new("RGB", size)).values():
        assert min(decode(data).image.size) >= 1
