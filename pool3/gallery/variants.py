"""Makes near-duplicates of a picture, by kind, which a search should find."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFont


def _crop(image: Image.Image) -> Image.Image:
    """Keep the middle 80 % of each side."""
    width, height = image.size
    return image.crop((width // 10, height // 10, width - width // 10, height - height // 10))


def _rotation(image: Image.Image) -> Image.Image:
    """Rotate by 10 degrees and crop the empty corners."""
    width, height = image.size
    turned = image.rotate(10, Image.Resampling.BICUBIC)
    return turned.crop((width // 7, height // 7, width - width // 7, height - height // 7))


def _flip(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _brightness(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.35)


def _resize(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.resize((max(width * 2 // 5, 1), max(height * 2 // 5, 1)), Image.Resampling.LANCZOS)


def _watermark(image: Image.Image) -> Image.Image:
    """Write a half-transparent word in the lower right corner."""
    width, height = image.size
    layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
    font = ImageFont.load_default(size=max(height // 8, 8))
    at = (width - width // 20, height - height // 20)
    ImageDraw.Draw(layer).text(
        at, "pool3", font=font, anchor="rs", fill=(255, 255, 255, 170), stroke_width=2
    )
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


_CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "crop": _crop,
    "rotation": _rotation,
    "flip": _flip,
    "brightness": _brightness,
    "resize": _resize,
    "watermark": _watermark,
}
JPEG = "jpeg-quality-20"
VARIANT_SUFFIXES = {**dict.fromkeys(_CHANGES, ".png"), JPEG: ".jpg"}
"""The file name extension of each kind of variant."""


def variants(image: Image.Image) -> dict[str, bytes]:
    """Return the encoded variants of an RGB picture, one of each kind.

    Examples
    --------
    >>> sorted(variants(Image.new("RGB", (40, 30))))[:3]
    ['brightness', 'crop', 'flip']
    """
    changed = {kind: png(change(image)) for kind, change in _CHANGES.items()}
    return changed | {JPEG: _encoded(image, "JPEG", quality=20)}


def png(image: Image.Image) -> bytes:
    """Return a picture as a PNG file, lightly compressed."""
    return _encoded(image, "PNG", compress_level=4)


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
