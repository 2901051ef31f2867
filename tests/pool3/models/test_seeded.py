from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pool3.decode import resized
from pool3.engines import Engine
from pool3.gallery.scenes import draw_scene
from pool3.models import ModelDirectory, inception
from pool3.models.calibrate import calibrate
from pool3.models.seeded import calibrated_statistics, drawn_kernels

Pixels = npt.NDArray[np.uint8]
MODEL_ID = "3849d1084cc548e446cbf9807de49e2f349cae446c097ab9da7e68e40edad175"


def cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    unit_a, unit_b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return np.asarray(unit_a @ unit_b.T, np.float64)


def test_the_model_is_the_same_everywhere(seeded: ModelDirectory) -> None:
    assert seeded.model_id == MODEL_ID


def test_there_is_each_tensor_of_the_network() -> None:
    tensors = drawn_kernels() | calibrated_statistics()
    assert {name: tensor.shape for name, tensor in tensors.items()} == inception.tensor_shapes()
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


def test_kernels_have_mean_zero_and_hes_variance() -> None:
    for kernel in drawn_kernels().values():
        fan_in = kernel[..., 0].size
        flat = kernel.reshape(fan_in, -1).astype(np.float64)
        assert np.abs(flat.mean(axis=0)).max() < 1e-7
        assert flat.var() == pytest.approx(2 / fan_in, rel=0.06)


def test_each_channel_is_normalised_on_pictures_that_were_not_measured(scenes: Pixels) -> None:
    again = calibrate(scenes[:8], drawn_kernels())
    committed = calibrated_statistics()
    order = [layer.name for layer in inception.CONVOLUTIONS]
    for part in ("moving_mean", "moving_variance"):
        expected = np.concatenate([committed[f"{name}/{part}"] for name in order])
        assert np.corrcoef(expected, again[part].astype(np.float64))[0, 1] > 0.9


def test_different_pictures_are_told_apart_and_small_changes_are_not(
    engine: Engine, scenes: Pixels
) -> None:
    originals, variants = scenes[:10], []
    for seed in range(10):
        file = io.BytesIO()
        draw_scene(seed).save(file, "JPEG", quality=20)
        variants.append(resized(Image.open(file), 299, "pil-bilinear"))
    features = engine(originals)
    between = cosines(features, features)[~np.eye(len(originals), dtype=bool)]
    found = cosines(engine(np.stack(variants)), features)
    assert np.median(between) < 0.9
    assert (found.argmax(axis=1) == np.arange(len(originals))).all()
    assert np.median(np.diag(found)) > 0.96
