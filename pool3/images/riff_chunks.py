"""Rebuilds a WebP from the chunks that hold its pixels."""

from __future__ import annotations

import struct

_PIXELS = frozenset({b"VP8 ", b"VP8L", b"ALPH"})
_HEADER = 12
_ALPHA_FLAG = 0x10


def pixels_only(data: bytes) -> bytes:
    """Return a still WebP without colour profile, EXIF and XMP; others as they are."""
    chunks: list[bytes] = []
    at = _HEADER
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind in {b"ANIM", b"ANMF"}:
            return data
        if kind == b"VP8X" and length == 10:
            flags = bytes([body[0] & _ALPHA_FLAG]) if body else b"\0"
            chunks.append(data[at : at + 8] + flags + body[1:])
        elif kind in _PIXELS and len(body) == length:
            chunks.append(data[at : at + 8] + body + bytes(length % 2))
        at += 8 + length + length % 2
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body
