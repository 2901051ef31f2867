from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pool3.engines import Engine
from pool3.gallery.calibrate import calibrate
from pool3.gallery.scenes import draw_scene
from pool3.images.decode import resized
from pool3.images.profiles import IGNORED
from pool3.models import ModelDirectory, inception
from pool3.models.directory import with_colour
from pool3.models.graph.freeze import folded
from pool3.models.sources.seeded import calibrated_statistics, drawn_kernels, rounded_to_bfloat16

Pixels = npt.NDArray[np.uint8]
MODEL_ID = "1594b3f66e7b8b97166c69d291f60f7281affc6ae687b132f114714ddb18d353"
ID_WITHOUT_PROFILES = "113d5c63fef6cf2c951e5a6766e40c0bec3b71528d57727135568fe22eca4003"


def cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    unit_a, unit_b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return np.asarray(unit_a @ unit_b.T, np.float64)


def test_the_model_is_the_same_everywhere(seeded: ModelDirectory) -> None:
    assert seeded.model_id == MODEL_ID
    assert with_colour(seeded, IGNORED).model_id == ID_WITHOUT_PROFILES


def test_there_is_each_tensor_of_the_network() -> None:
    tensors = drawn_kernels() | calibrated_statistics()
    assert {name: tensor.shape for name, tensor in tensors.items()} == inception.tensor_shapes()
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


def test_kernels_have_mean_zero_and_hes_variance() -> None:
    for kernel in drawn_kernels().values():
        fan_in = kernel[..., 0].size
        flat = kernel.reshape(fan_in, -1).astype(np.float64)
        # Rounding to 8 bits leaves a mean far below what a filter's deviation makes of a signal.
        assert np.abs(flat.mean(axis=0)).max() < 2e-3 * flat.std()
        assert flat.var() == pytest.approx(2 / fan_in, rel=0.06)


def test_bfloat16_holds_each_folded_weight_exactly() -> None:
    tensors = drawn_kernels() | calibrated_statistics()
    for layer in inception.CONVOLUTIONS:
        kernel, bias = folded(tensors, layer.name)
        assert np.array_equal(rounded_to_bfloat16(kernel.astype(np.float64)), kernel), layer.name
        # Beside the 4e-3 that bfloat16 resolves, what float32's own rounding leaves is nothing.
        np.testing.assert_allclose(rounded_to_bfloat16(bias.astype(np.float64)), bias, rtol=1e-5)


@given(st.floats(width=32, min_value=2.0**-60, max_value=2.0**60), st.sampled_from([-1, 1]))
def test_rounding_to_bfloat16_is_tensorflows(size: float, sign: int) -> None:
    import tensorflow as tf

    value = sign * size
    expected = tf.cast(tf.cast(tf.constant(value, tf.float32), tf.bfloat16), tf.float32).numpy()
    assert rounded_to_bfloat16(np.array([value]))[0] == expected


def test_each_channel_is_normalised_on_pictures_that_were_not_measured(scenes: Pixels) -> None:
    again = calibrate(scenes[:8], drawn_kernels())
    committed = calibrated_statistics()
    names = [layer.name for layer in inception.CONVOLUTIONS]
    means, variances = (
        np.concatenate([committed[f"{name}/{part}"] for name in names])
        for part in ("moving_mean", "moving_variance")
    )
    assert np.corrcoef(means, again["moving_mean"])[0, 1] > 0.6
    # Variances are powers of four: on other pictures few channels cross to the next.
    assert np.mean(variances == again["moving_variance"]) > 0.7


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
    similarity = cosines(engine(np.stack(variants)), features)
    assert np.median(between) < 0.7
    assert (similarity.argmax(axis=1) == np.arange(len(originals))).all()
    assert np.median(1 - np.diag(similarity)) < 0.2 * np.median(1 - between)
