"""PNG files without the text and the colour profile in them.

Pillow unpacks all of both before it shows a picture, and refuses the picture when it is much. Here
nobody reads them, so a screenshot that carries a long history is a picture like any other.
"""

from __future__ import annotations

import struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER = struct.Struct(">I4s")  # the length of a chunk's body, and its kind; a checksum follows it
_LEFT_OUT = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_WITH_ORIENTATION = (b"Raw profile type exif\0", b"Raw profile type APP1\0", b"XML:com.adobe.xmp\0")
_MOST_ORIENTATION = 65_536


def without_text(data: bytes) -> bytes:
    r"""Return a PNG file without its chunks of text and its profile.

    Parameters
    ----------
    data
        A file of any kind, whole or not.

    Returns
    -------
    bytes
        All else, as it was; text that may tell how to turn the picture stays if it is small. The
        same object when nothing is left out.

    Examples
    --------
    >>> text = b"\0\0\0\4tEXt" + b"a\0bc" + b"\1\2\3\4"
    >>> without_text(SIGNATURE + text + b"rest") == SIGNATURE + b"rest"
    True
    """
    if not data.startswith(SIGNATURE):
        return data
    view, kept = memoryview(data), []
    start = at = len(SIGNATURE)
    while at + _HEADER.size <= len(data):
        length, kind = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length + 4
        if end > len(data):
            break
        if kind in _LEFT_OUT and not _may_turn(data, at + _HEADER.size, length):
            kept.append(view[start:at])
            start = end
        at = end
    if start == len(SIGNATURE):
        return data
    return b"".join([SIGNATURE, *kept, view[start:]])


def _may_turn(data: bytes, body: int, length: int) -> bool:
    return length <= _MOST_ORIENTATION and data.startswith(_WITH_ORIENTATION, body)
