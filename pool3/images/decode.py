"""Decodes picture files of unknown origin to RGB.

Opens only formats of an allow-list, and checks width times height from the header before it decodes
a pixel. Decodes the first frame of an animation. Fetches nothing and changes no global state, so it
can run in threads.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Otherwise Pillow imports all its plugins, including EPS, at the first format it does not know yet.
from PIL import (  # noqa: F401
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from pool3.errors import PictureError, UsageError
from pool3.images.colour import WHITE
from pool3.images.damage import repaired, without_damage
from pool3.images.formats import (
    ALLOWED,
    HEIC,
    HEIF,
    HEIF_REMEDY,
    announced_format,
    heif_available,
)
from pool3.images.png_chunks import with_right_key
from pool3.images.profiles import SRGB, to_rgb_by_profile
from pool3.images.thumbnails import thumbnail
from pool3.images.tiff import TiffLayout, layout_of
from pool3.images.tiff_tags import beginning_at

log = logging.getLogger(__name__)

_ORIENTATION_TAG = 0x0112  # EXIF tag
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRUNCATED = ("truncat", "requires a buffer of", "but only got", "reached eof", "not enough")
_LAST_BYTES = {"JPEG": b"\xff\xd9", "JPEG2000": b"\xff\xd9", "PNG": b"IEND"}


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Limits for one picture.

    Parameters
    ----------
    max_pixels
        Width times height; decoding takes 4 to 25 bytes of memory per pixel, by format. Pillow's
        limit of 178,956,970 pixels applies in addition.
    max_bytes
        Length of the file.
    """

    max_pixels: int = 50_000_000
    max_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, not {getattr(self, name)}")


_DRAFT_FACTOR = 3
_SWAPS_SIDES = (
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)


@dataclass(frozen=True)
class Decoded:
    """A decoded picture.

    Parameters
    ----------
    image
        RGB, upright.
    format
        The format of the file, by Pillow's name.
    width, height
        Size of the original in pixels, upright; equal to that of `image` unless it is a draft.
    notes
        What is damaged in the file outside of its pixels, such as a text chunk.
    """

    image: Image.Image
    format: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture at a model's input size.

    Parameters
    ----------
    rgb
        uint8, (size, size, 3).
    width, height
        Size of the original in pixels, upright.
    format
        The format of the file: ``JPEG``, ``PNG``, …
    thumbnail
        A small JPEG, if requested; see `pool3.images.thumbnails.thumbnail`.
    seconds
        How long decoding took; 0 outside of a `DecodePool`.
    notes
        What is damaged in the file outside of its pixels.
    """

    rgb: NDArray[np.uint8]
    width: int
    height: int
    format: str
    thumbnail: bytes | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def decode(
    data: bytes,
    *,
    limits: DecodeLimits | None = None,
    admit: Callable[[int], None] | None = None,
    draft_side: int | None = None,
    colour: str = SRGB,
) -> Decoded:
    """Decode the first frame of a picture to upright RGB.

    Parameters
    ----------
    data
        The whole file.
    limits
        Limits of the picture; `DecodeLimits()` if None.
    admit
        Called before decoding with the memory that it needs, in pixels of nine bytes: width times
        height for baseline JPEG in RGB or grey, three times that for JPEG 2000, twice for other
        formats. An exception that it raises prevents the decoding.
    draft_side
        A JPEG may be decoded at a half, a quarter or an eighth of its size as long as each side
        has at least this many pixels; see `draft_side`.
    colour
        How the colour profile of the picture is treated, one of `pool3.images.profiles.COLOURS`.

    Raises
    ------
    PictureError
        With code ``empty``, ``too_large``, ``not_an_image``, ``unsupported_format``,
        ``too_many_pixels``, ``truncated`` or ``corrupt``.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> Image.new("L", (4, 3)).save(file, "PNG")
    >>> decode(file.getvalue()).image.size
    (4, 3)
    """
    limits = limits or DecodeLimits()
    if not data:
        raise PictureError("empty", "the file has no bytes")
    if len(data) > limits.max_bytes:
        raise PictureError(
            "too_large", f"{len(data)} bytes, more than the limit of {limits.max_bytes}"
        )
    name = announced_format(data)
    data, notes = without_damage(data, name)
    attempt = _Attempt(limits, admit, draft_side, colour, notes)
    if name == "TIFF":
        return attempt.tiff(layout_of(data))
    try:
        return attempt.by_pillow(data)
    except PictureError as error:
        if error.code not in {"truncated", "corrupt"}:
            raise
        if not notes:
            notes.append(f"ignored damage outside of its pixels ({error.detail})")
        for version in repaired(data, name):
            with suppress(PictureError):
                return attempt.by_pillow(version)
        raise


class _Attempt:
    """Decodes versions of a picture within limits; `admit` is called for the first of them."""

    def __init__(
        self,
        limits: DecodeLimits,
        admit: Callable[[int], None] | None,
        draft_side: int | None,
        colour: str,
        notes: list[str],
    ) -> None:
        self._limits, self._admit, self._draft_side = limits, admit, draft_side
        self._colour, self._notes = colour, notes

    def _check(self, size: tuple[int, int], memory_factor: int, stored: int = 0) -> None:
        """Compare the pixels, and those `stored` for them, with the limits."""
        width, height = size
        pixels = max(width * height, stored)
        if pixels > self._limits.max_pixels:
            described = f"{width} x {height} = {width * height} pixels"
            if stored > width * height:
                described += f", stored as {stored}"
            limit = self._limits.max_pixels
            raise PictureError("too_many_pixels", f"{described}, the limit is {limit}")
        if self._admit is not None:
            self._admit(pixels * memory_factor)
            self._admit = None

    def _decoded(
        self,
        image: Image.Image,
        kind: str,
        size: tuple[int, int],
        transpose: Image.Transpose | None = None,
    ) -> Decoded:
        upright = image if transpose is None else image.transpose(transpose)
        upright.info = {}  # its EXIF block still has the old orientation
        width, height = size[::-1] if transpose in _SWAPS_SIDES else size
        return Decoded(upright, kind, width, height, tuple(dict.fromkeys(self._notes)))

    def by_pillow(self, data: bytes, stored: int = 0) -> Decoded:
        with _open(data) as image:
            self._check(image.size, _memory_factor(image), stored)
            kind, size = image.format or "?", image.size
            if self._draft_side is not None and kind == "JPEG":
                image.draft(None, (self._draft_side, self._draft_side))
            frame = _frame(image)
            try:
                _load_first_frame(image)
                transpose = _orientation(image, self._notes)
                loaded = with_right_key(image, data) if kind == "PNG" else image
                rgb = to_rgb_by_profile(loaded, self._colour, self._notes, close=True)
            except Exception as error:
                raise _decode_error(data, error) from error
        if frame is not None:
            rgb = _on_white(rgb, frame)
        return self._decoded(rgb, kind, size, transpose)

    def tiff(self, layout: TiffLayout) -> Decoded:
        """Decode the main picture of a TIFF, by Pillow where that is right."""
        if layout.by_pillow:
            try:
                return self.by_pillow(beginning_at(layout.directory), layout.stored_pixels)
            except PictureError as error:
                if error.code == "too_many_pixels" or not layout.readable:
                    raise
                failure = error
        self._check(layout.size, -(-layout.pixel_bytes // 9), layout.stored_pixels)
        try:
            rgb = to_rgb_by_profile(layout.decoded(), self._colour, self._notes, close=True)
        except PictureError:
            raise
        except Exception as error:
            raise _decode_error(layout.directory.data, error) from error
        if layout.by_pillow:
            self._notes.append(f"ignored damage outside of its pixels ({failure.detail})")
        return self._decoded(rgb, "TIFF", layout.size)


def _frame(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Return the box of the first frame of a GIF, if that is smaller than its canvas."""
    if image.format != "GIF" or not getattr(image, "tile", None):
        return None
    extents: tuple[int, int, int, int] = image.tile[0].extents  # type: ignore[attr-defined]
    return None if extents == (0, 0, *image.size) else extents


def _on_white(rgb: Image.Image, frame: tuple[int, int, int, int]) -> Image.Image:
    """Return the picture with white, the colour of transparent pixels, outside of its frame."""
    paper = Image.new("RGB", rgb.size, (WHITE, WHITE, WHITE))
    paper.paste(rgb.crop(frame), frame)
    return paper


def draft_side(size: int, resize: str) -> int | None:
    """Return the smallest side of a draft for the input of a model, None if drafts are not allowed.

    libjpeg decodes faster at a half, a quarter or an eighth of the size: 11 megapixels in 102 ms
    instead of 256. With at least three times the side of the input, features of 12 such photo
    mosaics differed by at most 0.016 (centred difference), with twice by 0.034, with once by 0.14.
    A resize that samples pixels instead of averaging them would sample different pixels.
    """
    return _DRAFT_FACTOR * size if resize == "pil-bilinear" else None


def _open(data: bytes) -> Image.Image:
    """Open a picture; reads only its header."""
    formats: tuple[str, ...] = ALLOWED
    if announced_format(data) == HEIC and heif_available():
        formats = (*ALLOWED, HEIF)  # AVIF files can begin in the same way
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError as error:
        raise _unidentified_error(data) from error
    except Exception as error:
        raise _decode_error(data, error) from error


def _memory_factor(image: Image.Image) -> int:
    """Return the memory that decoding takes, in multiples of nine bytes per pixel.

    Measured peaks, in bytes per pixel: 8 to 9 for baseline JPEG in RGB or grey (decoded row by row,
    including the rotation), 12 for progressive or CMYK JPEG, 13 for PNG with alpha, 16 for 32-bit
    TIFF, 17 for WebP, 25 for JPEG 2000 with alpha.
    """
    plain = image.mode in {"RGB", "L"} and "progressive" not in image.info
    if image.format in {"JPEG", "MPO"} and plain:
        return 1
    return 3 if image.format == "JPEG2000" else 2


def _load_first_frame(image: Image.Image) -> None:
    try:
        image.load()
    except SyntaxError:
        # Pillow also reads the next frame of an animated PNG, which may be damaged.
        if not getattr(image, "is_animated", False) or getattr(image, "tile", True):
            raise


def _unidentified_error(data: bytes) -> PictureError:
    """Return the error for data that no allowed format recognises."""
    name = announced_format(data)
    if name is None:
        return PictureError("not_an_image", f"no known picture format begins with {data[:8]!r}")
    if name == HEIC:
        if not heif_available():
            return PictureError("unsupported_format", f"{name}; {HEIF_REMEDY}")
        name = HEIF
    elif name not in ALLOWED:
        readable = ", ".join(ALLOWED)
        return PictureError(
            "unsupported_format", f"{name}; convert it to one that is read: {readable}"
        )
    try:  # Image.open does not report the reason
        Image.OPEN[name][0](io.BytesIO(data), "")
    except Exception as error:  # noqa: BLE001
        return _decode_error(data, error)
    return PictureError("corrupt", f"its {name} header cannot be read")


def _decode_error(data: bytes, error: Exception) -> PictureError:
    """Return the error of the feature table for an exception of Pillow."""
    name = announced_format(data) or "picture"
    detail = f"{name}: {error}" if str(error) else f"{name}: {type(error).__name__}"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return PictureError("too_many_pixels", detail)
    words = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in words or "insufficient mem" in words:
        return PictureError("too_many_pixels", f"{detail}: its pixels do not fit into memory")
    if any(word in words for word in ("unsupported", "unknown pixel mode", "not supported")):
        return PictureError("unsupported_format", detail)
    if any(word in words for word in _TRUNCATED) or _is_truncated(data, name):
        return PictureError("truncated", detail)
    return PictureError("corrupt", detail)


def _is_truncated(data: bytes, name: str) -> bool:
    if name == "WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if name == "TIFF":
        order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
        return int.from_bytes(data[4:8], order) >= len(data)
    if name in {"AVIF", HEIC}:
        return _box_exceeds_file(data)
    return _LAST_BYTES.get(name, b"") not in data


def _box_exceeds_file(data: bytes) -> bool:
    """Return whether the last box of an ISO media file ends after the end of the file."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        if length == 1:  # the length follows the name of the box
            length = int.from_bytes(data[at + 8 : at + 16])
        if length < 8:  # 0 means up to the end of the file; other values are damage
            return False
        at += length
    return at != len(data)


def _orientation(image: Image.Image, notes: list[str]) -> Image.Transpose | None:
    """Return the transposition that makes a loaded picture upright.

    Pillow makes a TIFF upright when it loads it, and removes its orientation.
    """
    try:
        return _TRANSPOSES.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damage to this block costs only the orientation
        log.debug("ignored a damaged EXIF block", exc_info=True)
        notes.append(f"{image.format}: its EXIF block is damaged")
        return None


def _pil_bilinear(image: Image.Image, size: int) -> NDArray[np.uint8]:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _tf1_bilinear(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Resize as TensorFlow 1's ``ResizeBilinear``: corners as origins, bilinear, no antialias.

    Computes in float32, in the order of operations of TensorFlow, and rounds the result.
    """
    return _bilinear(image, size, _tf1_weights)


def _tf2_bilinear(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Resize as Keras' ``Resizing``: half-pixel centres, bilinear, no antialias; rounded."""
    return _bilinear(image, size, _half_pixel_weights)


#: Both neighbours of each new pixel along one side, and the share of the second.
_Weights = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]


def _bilinear(
    image: Image.Image, size: int, weights: Callable[[int, int], _Weights]
) -> NDArray[np.uint8]:
    """Blend the pixels that `weights` gives for the length of a side and its new length."""
    rgb = np.asarray(image)
    top, bottom, down = weights(rgb.shape[0], size)
    left, right, across = weights(rgb.shape[1], size)
    across, down = across[:, None], down[:, None, None]
    upper, lower = (
        _blend(rgb[rows][:, left], rgb[rows][:, right], across) for rows in (top, bottom)
    )
    return np.rint(_blend(upper, lower, down)).astype(np.uint8)


def _tf1_weights(length: int, size: int) -> _Weights:
    """Return the neighbours and shares of positions from the corner."""
    position = np.arange(size, dtype=np.float32) * (np.float32(length) / np.float32(size))
    first = np.minimum(position.astype(np.intp), length - 1)
    return first, np.minimum(first + 1, length - 1), position - first.astype(np.float32)


def _half_pixel_weights(length: int, size: int) -> _Weights:
    """Return the neighbours and shares of positions between the centres of pixels."""
    scale = np.float32(length) / np.float32(size)
    position = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    below = np.floor(position)
    first = np.clip(below.astype(np.intp), 0, length - 1)
    second = np.clip(below.astype(np.intp) + 1, 0, length - 1)
    return first, second, position - below


def _blend(
    first: NDArray[np.generic], second: NDArray[np.generic], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    start = first.astype(np.float32)
    return start + (second.astype(np.float32) - start) * share


RESIZES: dict[str, Callable[[Image.Image, int], NDArray[np.uint8]]] = {
    "pil-bilinear": _pil_bilinear,
    "tf1-bilinear": _tf1_bilinear,
    "tf2-bilinear": _tf2_bilinear,
}
"""Resize functions by their name in model.json."""


def resized(image: Image.Image, size: int, resize: str) -> NDArray[np.uint8]:
    """Return an RGB picture as uint8 (size, size, 3); its proportions may change.

    Raises
    ------
    UsageError
        If `resize` is none of `RESIZES`.
    """
    if resize not in RESIZES:
        raise UsageError(
            f"expected a resize of {', '.join(RESIZES)}, found {resize!r}; "
            "a newer release of pool3 may have it"
        )
    return RESIZES[resize](image, size)


def decode_resized(
    data: bytes,
    *,
    size: int,
    resize: str,
    limits: DecodeLimits | None = None,
    admit: Callable[[int], None] | None = None,
    thumbnail_side: int | None = None,
    colour: str = SRGB,
) -> Picture:
    """Decode a picture and resize it to the input of a model; raises as `decode` and `resized`.

    With `thumbnail_side` the result has a thumbnail with sides of at most that many pixels.
    """
    side = draft_side(size, resize)
    if side is not None:
        side = max(side, thumbnail_side or 0)
    decoded = decode(data, limits=limits, admit=admit, draft_side=side, colour=colour)
    small = None if thumbnail_side is None else thumbnail(decoded.image, thumbnail_side)
    pixels = resized(decoded.image, size, resize)
    return Picture(
        pixels, decoded.width, decoded.height, decoded.format, small, notes=decoded.notes
    )
