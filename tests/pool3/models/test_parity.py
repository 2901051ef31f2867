"""The frozen graph gives what Keras gives.

Features are averages after a ReLU with a large common component, so that a raw cosine hides even a
wrong channel order. Therefore differences are relative to what distinguishes pictures.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pool3.engines import Engine
from tests.pool3.models.parity import LIMIT, centred_difference

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


def keras_features(model: Any, pixels: Pixels) -> Features:
    import keras

    prepared = keras.applications.inception_v3.preprocess_input(pixels.astype(np.float32))
    return np.asarray(model.predict(prepared, batch_size=16, verbose=0))


@pytest.fixture(scope="module")
def photo_reference(keras_notop: Any, photo_pixels: Pixels) -> Features:
    return keras_features(keras_notop, photo_pixels)


def test_drawn_pictures_give_kerass_features(
    keras_notop: Any, engine: Engine, scenes: Pixels
) -> None:
    expected = keras_features(keras_notop, scenes[:8])
    assert centred_difference(expected, engine(scenes[:8])).max() <= LIMIT
    for wrong in (scenes[:8, ..., ::-1], np.rot90(scenes[:8], axes=(1, 2))):
        assert centred_difference(expected, engine(wrong)).min() > LIMIT


def test_photos_give_kerass_features(
    photo_reference: Features, engine: Engine, photo_pixels: Pixels
) -> None:
    assert centred_difference(photo_reference, engine(photo_pixels)).max() <= LIMIT


def test_a_wrong_channel_order_is_seen(
    photo_reference: Features, engine: Engine, photo_pixels: Pixels
) -> None:
    assert centred_difference(photo_reference, engine(photo_pixels[..., ::-1])).min() > LIMIT


def test_another_resize_is_seen(
    photo_reference: Features, engine: Engine, photos: list[bytes]
) -> None:
    images = (Image.open(io.BytesIO(data)).convert("RGB") for data in photos)
    nearest = np.stack([image.resize((299, 299), Image.Resampling.NEAREST) for image in images])
    assert centred_difference(photo_reference, engine(nearest)).min() > LIMIT


def test_a_quarter_turn_is_seen(
    photo_reference: Features, engine: Engine, photo_pixels: Pixels
) -> None:
    turned = np.rot90(photo_pixels, axes=(1, 2))
    assert centred_difference(photo_reference, engine(turned)).min() > LIMIT


def test_the_batch_size_changes_nothing(engine: Engine, scenes: Pixels) -> None:
    together = engine(scenes[:12])
    alone = np.concatenate([engine(scene[None]) for scene in scenes[:6]])
    pairs = np.concatenate([engine(scenes[i : i + 2]) for i in (0, 2, 4)])
    for actual in (alone, pairs):
        assert centred_difference(together, actual).max() <= 0.001
