"""Measures how far the features of an engine differ from those in float32.

How sensitive a model is to rounding depends on its weights, so each model is measured when it is
loaded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LIMIT = 0.05
"""The largest centred difference to float32, on photos, for an automatically chosen precision."""

# Photos can differ more than the probes: with the seeded model, the worst of 1582 photos differed
# 1.16 times as much, with an earlier version of its weights 1.6 times.
_PROBE_LIMIT = LIMIT / 1.6
_PLAIN = (255, 240, 128, 0)
_NOISE_PROBES = 4


def centred_difference(
    expected: npt.NDArray[np.float32], actual: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return the difference of features relative to what distinguishes pictures.

    Features are averages after a ReLU and share a large common component. Therefore the difference
    is divided by the distance to the mean of all features.

    Parameters
    ----------
    expected, actual
        float32 ``(n, d)``, n of 2 or more.

    Returns
    -------
    numpy.ndarray
        float64 ``(n,)``: ``|expected - actual| / |expected - mean(expected)|``; 0 if both agree.
    """
    reference = expected.astype(np.float64)
    spread = np.linalg.norm(reference - reference.mean(axis=0), axis=1)
    distance = np.linalg.norm(reference - actual, axis=1)
    difference: npt.NDArray[np.float64] = np.zeros_like(spread)
    with np.errstate(divide="ignore"):
        np.divide(distance, spread, out=difference, where=distance != 0)
    return difference


def is_faithful(
    expected: npt.NDArray[np.float32], actual: npt.NDArray[np.float32]
) -> tuple[bool, float]:
    """Return whether features of the `probes` are accurate, and their largest difference."""
    worst = float(centred_difference(expected, actual).max())
    return worst <= _PROBE_LIMIT, worst


def probes(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Generate pictures to compare engines on: uint8 ``(n, height, width, 3)``.

    Some are noise with the spectrum of photos (amplitude proportional to 1/frequency). Others show
    such a patch on a plain background, like product photos: in plain areas all rounding errors have
    the same sign and do not average out, so photos like these differ most. With the seeded model,
    bfloat16 differs by at most 0.020 on the probes and by at most 0.023 on 1582 photos (99th
    percentile 0.015, median 0.006). Generating them takes milliseconds.
    """
    rng = np.random.default_rng(1729)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1 / max(height, width)
    noise = [_photo_like(rng, frequency, (height, width)) for _ in range(_NOISE_PROBES)]
    patches = [_photo_like(rng, frequency, (height, width)) for _ in _PLAIN]
    return np.stack(noise + [_on_plain(*pair) for pair in zip(patches, _PLAIN, strict=True)])


def _on_plain(pixels: npt.NDArray[np.uint8], grey: int) -> npt.NDArray[np.uint8]:
    """Keep the middle half of each side (a quarter of the area) and make the rest plain."""
    height, width = pixels.shape[:2]
    middle = (slice(height // 4, height - height // 4), slice(width // 4, width - width // 4))
    plain = np.full_like(pixels, grey)
    plain[middle] = pixels[middle]
    return plain


def _photo_like(
    rng: np.random.Generator, frequency: npt.NDArray[np.float64], size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    white = np.fft.rfft2(rng.standard_normal((3, *size)))
    noise = np.fft.irfft2(white / frequency, s=size)
    noise = (noise - noise.mean()) / noise.std()
    # The channels of photos are correlated.
    mixed = np.einsum("ij,jhw->hwi", 0.4 * np.eye(3) + 0.2, noise)
    brightness = rng.uniform(70, 180) + rng.uniform(-30, 30, 3)
    pixels: npt.NDArray[np.uint8] = np.clip(
        mixed * rng.uniform(30, 70) + brightness, 0, 255
    ).astype(np.uint8)
    return pixels
