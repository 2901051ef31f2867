"""The resize of TensorFlow 1, against TensorFlow's own op."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pool3.gallery import draw_scene
from pool3.images.decode import resized
from pool3.models.tensorflow import import_tensorflow


@pytest.fixture(scope="module")
def tensorflow() -> Any:
    return import_tensorflow()


def by_tensorflow(tf: Any, image: Image.Image, size: int) -> npt.NDArray[np.float32]:
    pixels = np.asarray(image)[None].astype(np.float32)
    actual = tf.compat.v1.image.resize_bilinear(
        pixels, (size, size), align_corners=False, half_pixel_centers=False
    )
    return np.asarray(actual[0])


@pytest.mark.parametrize(
    "shape", [(500, 375), (299, 299), (1, 1), (2, 3), (298, 300), (1023, 17), (64, 1200)]
)
def test_it_is_tensorflows_op_rounded(tensorflow: Any, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (shape[1], shape[0], 3), np.uint8)
    for image in (Image.fromarray(noise), draw_scene(5, size=shape)):
        expected = by_tensorflow(tensorflow, image, 299)
        actual = resized(image, 299, "tf1-bilinear").astype(np.float32)
        # Half a grey level is the rounding; only what lies on the half may fall to either side.
        assert np.abs(actual - expected).max() <= 0.5001
        assert (actual != np.rint(expected)).mean() < 1e-4


def test_it_is_not_the_resize_of_pillow(tensorflow: Any) -> None:
    image = draw_scene(5, size=(800, 600))
    expected = by_tensorflow(tensorflow, image, 299)
    other = resized(image, 299, "pil-bilinear").astype(np.float32)
    assert np.abs(other - expected).max() > 20
