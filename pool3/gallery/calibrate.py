"""Measures the batch-norm statistics of the seeded model on drawn pictures.

``python -m pool3.gallery.calibrate`` writes the constant file of the statistics. Developers run it
when the drawn kernels change; users never do, because another file means another ``model_id``.

The statistics are measured layer by layer, on the normalised outputs of the layers before, so that
every channel has mean 0 and a standard deviation of 0.7 to 1.4 over the pictures before beta is
added. The divisor is a power of two and the resulting bias is rounded, so that bfloat16 represents
the folded convolution exactly (see `pool3.models.sources.seeded.drawn_kernels`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from pool3.gallery.scenes import draw_scene
from pool3.images.decode import resized
from pool3.models import inception
from pool3.models.directory import RESIZE
from pool3.models.sources import seeded
from pool3.models.sources.seeded import STATISTICS_FILE, beta_of, drawn_kernels, rounded_to_bfloat16
from pool3.models.tensorflow import import_tensorflow

log = logging.getLogger(__name__)

PICTURES = 64
FIRST_SCENE = 1_000_000
"""No gallery draws these scenes, so that no measurement uses the calibration pictures."""


def calibrate(
    pictures: npt.NDArray[np.uint8], kernels: dict[str, npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Measure mean and variance of each channel before its ReLU.

    Parameters
    ----------
    pictures
        uint8 ``(n, 299, 299, 3)``.
    kernels
        ``<scope>/kernel`` to float32.

    Returns
    -------
    dict
        ``moving_mean`` and ``moving_variance``, float32, all channels in Keras' creation order.
    """
    tf = import_tensorflow()
    values = {inception.INPUT: tf.constant(pictures.astype(np.float32) / 127.5 - 1)}
    means, variances = [], []
    for position, layer in enumerate(inception.LAYERS):
        inputs = [values[name] for name in layer.inputs]
        if layer.kind == "conv":
            raw = tf.nn.conv2d(
                inputs[0], kernels[f"{layer.name}/kernel"], layer.stride, layer.padding
            )
            values[layer.name], mean, variance = _normalised(tf, raw, beta_of(layer))
            means.append(mean)
            variances.append(variance)
            log.info("%s: variance %.3g to %.3g", layer.name, variance.min(), variance.max())
        elif layer.kind == "concat":
            values[layer.name] = tf.concat(inputs, axis=3)
        else:
            pool = tf.nn.max_pool2d if layer.kind == "max_pool" else tf.nn.avg_pool2d
            values[layer.name] = pool(inputs[0], layer.kernel, layer.stride, layer.padding)
        _drop_unused(values, inception.LAYERS[position + 1 :])
    return {"moving_mean": np.concatenate(means), "moving_variance": np.concatenate(variances)}


def _normalised(
    tf: Any, raw: Any, beta: float
) -> tuple[Any, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Normalise with the statistics as they will be stored, and apply the ReLU."""
    moments = tf.nn.moments(raw, axes=[0, 1, 2])
    mean, variance = (moment.numpy().astype(np.float64) for moment in moments)
    deviation = 2.0 ** np.round(np.log2(np.sqrt(variance + inception.EPSILON)))
    bias = rounded_to_bfloat16(beta - mean / deviation)
    stored_mean = ((beta - bias.astype(np.float64)) * deviation).astype(np.float32)
    stored_variance = (deviation**2 - inception.EPSILON).astype(np.float32)
    return tf.nn.relu(raw / deviation.astype(np.float32) + bias), stored_mean, stored_variance


def _drop_unused(values: dict[str, Any], remaining: tuple[inception.Layer, ...]) -> None:
    used = {name for layer in remaining for name in layer.inputs}
    for name in [name for name in values if name not in used]:
        del values[name]


def main() -> None:
    """Draw the pictures, measure, and write the constant file beside the seeded model."""
    logging.basicConfig(level=logging.INFO)
    scenes = (draw_scene(FIRST_SCENE + i) for i in range(PICTURES))
    pictures = np.stack([resized(scene, inception.INPUT_SIZE, RESIZE) for scene in scenes])
    statistics = calibrate(pictures, drawn_kernels())
    Path(seeded.__file__).with_name(STATISTICS_FILE).write_bytes(save(statistics))


if __name__ == "__main__":
    main()
