"""Detects the picture format of a file by its first bytes, including unsupported formats.

Error messages use it to distinguish an unsupported picture from a file that is no picture. Reads no
pixels.
"""

from __future__ import annotations

import re
from functools import cache

from pool3.errors import install_remedy

ALLOWED = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM")
"""Formats that are decoded (Pillow's names). None of them runs a program or follows a link."""

_SIGNATURES = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", rb"GIF8[79]a"),
    ("WEBP", rb"RIFF....WEBP"),
    ("TIFF", rb"II[*+]\x00|MM\x00[*+]|II\x00\*|MM\*\x00"),
    ("AVIF", rb"....ftypavi[fs]"),
    ("JPEG2000", rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  \r\n\x87\n"),
    ("PPM", rb"P[1-6f][ \t\r\n]"),
    ("PAM", rb"P7[ \t\r\n]"),
    ("PFM", rb"PF[ \t\r\n]"),
    ("HEIC", rb"....ftyp(hei|hev|mif1|msf1)"),
    ("Canon raw (CR3)", rb"....ftypcrx"),
    ("JPEG XL", rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n"),
    ("JPEG XR", rb"II\xbc"),
    ("PDF", rb"%PDF-"),
    ("EPS", rb"%!PS|\xc5\xd0\xd3\xc6"),
    ("PSD", rb"8BPS"),
    ("XCF", rb"gimp xcf"),
    ("SVG", rb"(\xef\xbb\xbf)?\s*(<\?xml.{,2000}?)?(<!.{,2000}?)?<svg\b"),
    ("OpenEXR", rb"\x76\x2f\x31\x01"),
    ("Radiance HDR", rb"#\?(RADIANCE|RGBE)"),
    ("DDS", rb"DDS \x7c"),
    ("ICNS", rb"icns"),
    ("ICO", rb"\x00\x00[\x01\x02]\x00[^\x00]\x00"),
    ("QOI", rb"qoif"),
    ("DjVu", rb"AT&TFORM"),
    ("WMF", rb"\xd7\xcd\xc6\x9a|\x01\x00\x00\x00.{36} EMF"),
    ("FITS", rb"SIMPLE  ="),
    ("SGI", rb"\x01\xda[\x00\x01][\x01\x02]"),
    ("Sun raster", rb"\x59\xa6\x6a\x95"),
    ("XPM", rb"/\* XPM \*/"),
    ("Fuji raw", rb"FUJIFILMCCD-RAW"),
    ("PCX", rb"\x0a[\x00\x02-\x05]\x01[\x01\x02\x04\x08]"),
    ("BMP", rb"BM"),
)
_PATTERNS = tuple((name, re.compile(pattern, re.DOTALL)) for name, pattern in _SIGNATURES)


def announced_format(data: bytes) -> str | None:
    r"""Return the picture format that the first bytes of `data` indicate, or None.

    Examples
    --------
    >>> announced_format(b"\x89PNG\r\n\x1a\n...")
    'PNG'
    >>> announced_format(b"%PDF-1.7")
    'PDF'
    >>> announced_format(b"dear diary") is None
    True
    """
    head = data[:4096]
    return next((name for name, pattern in _PATTERNS if pattern.match(head)), None)


#: The name by the first bytes of a file, and the name of Pillow's reader.
HEIC, HEIF = "HEIC", "HEIF"
HEIF_REMEDY = f"its reader is not installed; {install_remedy('heif')}"


@cache
def heif_available() -> bool:
    """Return whether HEIC can be read; the first call registers its reader in Pillow."""
    try:
        import pillow_heif  # noqa: PLC0415 - an extra, and slow to load
    except ImportError:
        return False
    pillow_heif.register_heif_opener(
        # One decoder process per CPU needs no threads.
        decode_threads=1, thumbnails=False, depth_images=False, aux_images=False,
    )  # fmt: skip
    return True
