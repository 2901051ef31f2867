"""Keeps damage outside of the pixels from costing a picture, and names it."""

from __future__ import annotations

from collections.abc import Iterator

from pool3.images import jpeg_segments, png_chunks, riff_chunks


def without_damage(data: bytes, name: str | None) -> tuple[bytes, list[str]]:
    """Return a file that Pillow reads, without damaged metadata, and notes on the damage.

    Parameters
    ----------
    data
        The whole file.
    name
        Its format, as `pool3.images.formats.announced_format` names it.

    Raises
    ------
    PictureError
        If its kind is not supported.
    """
    if name == "JPEG":
        return jpeg_segments.without_damage(data)
    if name == "PNG":
        return png_chunks.without_damage(data)
    return data, []


def repaired(data: bytes, name: str | None) -> Iterator[bytes]:
    """Yield versions of a file that could not be decoded, without what holds no pixels."""
    if name == "JPEG":
        yield from _other(jpeg_segments.pixels_only(data), data)
        with_end = jpeg_segments.with_end(data)
        if with_end is not None:
            yield with_end
    if name == "PNG":
        yield from _other(png_chunks.pixels_only(data), data)
    if name == "WEBP":
        yield from _other(riff_chunks.pixels_only(data), data)


def _other(changed: bytes, data: bytes) -> Iterator[bytes]:
    if changed != data:
        yield changed
