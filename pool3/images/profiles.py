"""Converts pictures to sRGB by the ICC profile that they embed.

A profile that cannot be used costs no picture: the picture is converted as one without a profile,
and a note says why. Pictures without a profile are sRGB; CMYK without one is converted by Pillow.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pool3.errors import UsageError
from pool3.images.colour import SIXTEEN_BIT_MODES, to_rgb

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsProfile, ImageCmsTransform

log = logging.getLogger(__name__)

IGNORED, SRGB = "ignored", "srgb"
COLOURS = (IGNORED, SRGB)
"""How the profile of a picture is treated, by its name in model.json."""

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Profiles of presses have up to 3 MB."""

_INFO = "icc_profile"
_HEADER_BYTES = 132
_MAX_TAGS = 100
_MAX_ELEMENTS = 16
_MAX_CONVERSIONS = 16
_MAX_SRGB_DIFFERENCE = 2
_LEAST_WHITE = 160
_CLASSES = frozenset({b"mntr", b"scnr", b"prtr", b"spac"})
_SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_NAMES = {mode: space.decode().strip() for space, mode in _SPACES.items()}


@dataclass(frozen=True)
class Conversion:
    """What a profile does to a picture: nothing if it is sRGB, or not usable for a reason.

    Parameters
    ----------
    mode
        The mode of the pixels that the transform reads: ``RGB``, ``L`` or ``CMYK``.
    transform
        Of ImageCms; None to convert as without a profile.
    problem
        Why the profile cannot be used.
    """

    mode: str
    transform: ImageCmsTransform | None = None
    problem: str | None = None

    def __call__(self, image: Image.Image, *, in_place: bool) -> Image.Image:
        """Return an opaque picture as sRGB; with `in_place` the pixels of RGB are overwritten."""
        if self.transform is None:
            return image.convert("RGB")
        source = image if image.mode == self.mode else image.convert(self.mode)
        if self.mode == "L":
            return _grey_by(self.transform, source)
        if self.mode == "RGB" and (in_place or source is not image):
            return self.transform.apply_in_place(source)
        return self.transform.apply(source)


def _grey_by(transform: ImageCmsTransform, image: Image.Image) -> Image.Image:
    """Convert grey by a table of all levels, which is exact; LittleCMS would interpolate."""
    _, levels = _probe(transform, "L")
    return Image.merge("RGB", [image.point(channel) for channel in levels.T.tolist()])


def to_rgb_by_profile(
    image: Image.Image, colour: str, notes: list[str], *, close: bool = False
) -> Image.Image:
    """Convert a loaded picture to RGB: as sRGB by its embedded profile, or without it.

    The intent is relative colorimetric without black point compensation. Transparent pixels are
    converted before they are composited.

    Parameters
    ----------
    image, close
        As in `pool3.images.colour.to_rgb`.
    colour
        One of `COLOURS`.
    notes
        Gets a sentence if the profile should have been used and cannot be.

    Returns
    -------
    PIL.Image.Image
        RGB, same size.
    """
    if colour == IGNORED or _INFO not in image.info or image.mode == "LAB":
        return to_rgb(image, close=close)  # Lab is independent of a device
    conversion = _conversion(image.info[_INFO], _pixel_mode(image))
    if conversion.problem is not None:
        notes.append(f"its colour profile was ignored: {conversion.problem}")
    if conversion.transform is None:
        return to_rgb(image, close=close)
    return to_rgb(image, close=close, convert=conversion)


def require_colour(colour: str) -> None:
    """Raise `UsageError` if a treatment of profiles is none of `COLOURS`."""
    if colour not in COLOURS:
        raise UsageError(
            f"expected a colour of {', '.join(COLOURS)}, found {colour!r}; "
            "a newer release of pool3 may have it"
        )


def _pixel_mode(image: Image.Image) -> str:
    if image.mode in {"1", "L", "LA", "La", "I", "F"} | SIXTEEN_BIT_MODES:
        return "L"
    return "CMYK" if image.mode == "CMYK" else "RGB"


_conversions: dict[tuple[bytes, str], Conversion] = {}
_lock = threading.Lock()


def _conversion(profile: Any, mode: str) -> Conversion:
    """Return the conversion of a profile, made once per process for each digest and mode."""
    if not isinstance(profile, bytes) or not profile:  # Pillow could not put it together
        return Conversion(mode, problem="it is damaged or has missing parts")
    if len(profile) > MAX_PROFILE_BYTES:
        text = f"{len(profile)} bytes, more than the limit of {MAX_PROFILE_BYTES}"
        return Conversion(mode, problem=text)
    key = (hashlib.sha256(profile).digest(), mode)
    with _lock:
        if key not in _conversions:
            while len(_conversions) >= _MAX_CONVERSIONS:
                del _conversions[next(iter(_conversions))]
            _conversions[key] = _make_conversion(profile, mode)
        return _conversions[key]


def _make_conversion(profile: bytes, mode: str) -> Conversion:
    problem = _header_problem(profile)
    if problem is not None:
        return Conversion(mode, problem=problem)
    space = _SPACES[profile[16:20]]
    try:
        transform = _transform(profile, space)
        before, after = _probe(transform, space)
    except Exception as error:
        log.debug("ignored a damaged colour profile", exc_info=True)
        return Conversion(mode, problem=f"it is damaged ({error})")
    if space != "CMYK" and np.abs(before - after).max() <= _MAX_SRGB_DIFFERENCE:
        return Conversion(mode)  # also an RGB profile in a grey picture
    if space != mode:
        text = f"expected one of {_NAMES[mode]}, as the pixels are, found one of {_NAMES[space]}"
        return Conversion(mode, problem=text)
    black, white = after[0 if space != "CMYK" else -1], after[-1 if space != "CMYK" else 0]
    if white.min() < _LEAST_WHITE or black.mean() > white.mean() / 2:
        return Conversion(mode, problem="it is damaged (its white is dark or its black is light)")
    return Conversion(mode, transform)


def _header_problem(profile: bytes) -> str | None:
    """Return what is wrong with a profile as its header and the table of its tags have it."""
    if len(profile) < _HEADER_BYTES or profile[36:40] != b"acsp":
        return "it is damaged (it has no header of an ICC profile)"
    kind, space = profile[12:16], profile[16:20]
    if kind not in _CLASSES:
        return f"expected one of a display, input or output device, found class {kind!r}"
    if space not in _SPACES:
        return f"expected one of RGB, GRAY or CMYK, found one of {space!r}"
    tags = int.from_bytes(profile[128:132])
    if tags > _MAX_TAGS or len(profile) < _HEADER_BYTES + 12 * tags:
        return f"it is damaged (it has {tags} tags)"
    for at in range(_HEADER_BYTES, _HEADER_BYTES + 12 * tags, 12):
        start = int.from_bytes(profile[at + 4 : at + 8])
        elements = int.from_bytes(profile[start + 12 : start + 16])
        if profile[start : start + 4] == b"mpet" and elements > _MAX_ELEMENTS:
            return f"it has {elements} processing elements, more than the limit of {_MAX_ELEMENTS}"
    return None


@cache
def _srgb() -> ImageCmsProfile:
    from PIL import ImageCms  # noqa: PLC0415

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _transform(profile: bytes, space: str) -> ImageCmsTransform:
    from PIL import ImageCms  # noqa: PLC0415

    # Two CMYK photos were 1.9 and 6.5 grey levels off their originals, with black point
    # compensation 6.8 and 12.1.
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        _srgb(),
        space,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.NOOPTIMIZE if space == "L" else ImageCms.Flags.NONE,
    )


def _probe(transform: ImageCmsTransform, space: str) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return sample colours before and after a transform; the first has no light or no ink.

    Grey is given as RGB, so that it can be compared.
    """
    samples = _samples(space)
    channels = samples.shape[1]
    pixels = samples[:, 0] if channels == 1 else samples
    image = Image.frombytes(space, (len(samples), 1), np.ascontiguousarray(pixels).tobytes())
    after = np.asarray(transform.apply(image)).reshape(-1, 3)
    before = np.repeat(samples, 3, axis=1) if channels == 1 else samples[:, :3]
    return before.astype(np.int16), after.astype(np.int16)


def _samples(space: str) -> NDArray[np.uint8]:
    """Return colours from all zeros to the largest: each grey, a grid of RGB, or paper and ink."""
    if space == "L":
        return np.arange(256, dtype=np.uint8)[:, None]
    if space == "CMYK":
        return np.array([[0, 0, 0, 0], [255, 255, 255, 255]], np.uint8)
    return np.array(list(itertools.product(range(0, 256, 17), repeat=3)), np.uint8)
