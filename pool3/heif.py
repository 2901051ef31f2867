"""HEIC, the pictures of telephones: read where the extra `heif` is installed.

It is an extra because the library beneath it is under the GNU licences.
"""

from __future__ import annotations

from functools import cache

ANNOUNCED, FORMAT = "HEIC", "HEIF"
REMEDY = "its reader is not installed; install it: pip install 'pool3[heif]'"


@cache
def is_readable() -> bool:
    """Tell whether HEIC can be read here; the first call loads its reader into Pillow."""
    try:
        import pillow_heif  # noqa: PLC0415 - an extra, and slow to load
    except ImportError:
        return False
    pillow_heif.register_heif_opener(
        # As many decoders as there are CPUs do without threads.
        decode_threads=1, thumbnails=False, depth_images=False, aux_images=False,
    )  # fmt: skip
    return True
