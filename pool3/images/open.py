"""Opens a picture from a path, a uri, bytes, a PIL image or an array of pixels."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from pool3 import storage
from pool3.errors import UsageError
from pool3.images.decode import DecodeLimits, decode
from pool3.images.profiles import SRGB, to_rgb_by_profile

log = logging.getLogger(__name__)

# Enough to draw the query picture of a result on a contact sheet.
_COPY_SIDE = 512


def fetched_picture(
    uri: str | os.PathLike[str], draft_side: int | None = None, colour: str = SRGB
) -> Image.Image:
    """Fetch and decode a picture.

    Parameters
    ----------
    uri
        A path or a uri that `pool3.storage` supports.
    draft_side, colour
        As in `pool3.images.decode.decode`.

    Returns
    -------
    PIL.Image.Image
        RGB, upright.

    Raises
    ------
    StorageError, PictureError
        If it cannot be read or decoded.
    """
    data = storage.fetch(storage.canonical_uri(uri), max_bytes=DecodeLimits().max_bytes)
    return _decoded(data, draft_side, colour, str(uri))


def _decoded(data: bytes, draft_side: int | None, colour: str, name: str) -> Image.Image:
    decoded = decode(data, draft_side=draft_side, colour=colour)
    _log_notes(decoded.notes, name)
    return decoded.image


def _log_notes(notes: Sequence[str], name: str) -> None:
    for note in notes:
        log.warning("%s was decoded, but %s", name, note)


def as_picture(query: Any, draft_side: int | None = None, colour: str = SRGB) -> Image.Image:
    """Convert a query picture to RGB.

    Parameters
    ----------
    query
        A path or uri, the bytes of a picture file, a PIL image, or a uint8 array (h, w, 3). A PIL
        image that is open and not loaded yet is decoded from its file, as a path would be; Pillow
        itself reads some files differently. It stays open.
    draft_side
        As in `pool3.images.decode.decode`, for files.
    colour
        As in `pool3.images.decode.decode`, also for PIL images that have a profile.

    Raises
    ------
    UsageError
        For anything else.
    """
    if isinstance(query, str | Path):
        return fetched_picture(query, draft_side, colour)
    if isinstance(query, bytes | bytearray | memoryview):
        return _decoded(bytes(query), draft_side, colour, "a query picture")
    if isinstance(query, Image.Image):
        data = _unloaded_file(query)
        if data is not None:
            return _decoded(data, draft_side, colour, "a query picture")
        return _loaded_pixels(query, colour)
    if _is_pixels(query):
        return Image.fromarray(np.ascontiguousarray(query))
    kind = type(query).__name__
    if isinstance(query, np.ndarray):
        kind = f"an array of {query.dtype} of shape {query.shape}"
    raise UsageError(
        "a query must be a path or uri, a picture file's bytes, a PIL image, a uint8 array "
        f"(height, width, 3), a vector (one-dimensional array) or a list of these; found {kind}"
    )


def _unloaded_file(image: Image.Image) -> bytes | None:
    """Return the file of a picture of which no pixel was read; None for pixels in memory.

    Another frame than the first was chosen by the caller, and counts as pixels in memory.
    """
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.fp is None:
        return None
    if image.tell() > 0:
        return None
    position = image.fp.tell()
    try:
        image.fp.seek(0)
        return bytes(image.fp.read(DecodeLimits().max_bytes + 1))
    finally:
        image.fp.seek(position)


def _loaded_pixels(image: Image.Image, colour: str) -> Image.Image:
    """Return pixels in memory as RGB, upright by the image's own EXIF block."""
    notes: list[str] = []
    rgb = to_rgb_by_profile(ImageOps.exif_transpose(image), colour, notes)
    _log_notes(notes, "a query picture")
    return rgb


def _is_pixels(query: Any) -> bool:
    return (
        isinstance(query, np.ndarray)
        and query.dtype == np.uint8
        and query.ndim == 3
        and query.shape[2] == 3
        and query.size > 0
    )


def small_copy(picture: Image.Image) -> Image.Image:
    """Return a copy of at most 512 pixels a side, for a contact sheet."""
    copy = picture.copy()
    copy.thumbnail((_COPY_SIDE, _COPY_SIDE))
    return copy
