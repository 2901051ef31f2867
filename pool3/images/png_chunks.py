"""Walks the chunks of a PNG: leaves out damaged ones that hold no pixels, and reads its colour key.

Decodes no pixels, and decompresses text and profiles only up to a limit.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from pool3.errors import PictureError
from pool3.images import tiff_tags

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB\x60\x82"
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_COMPRESSED = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7, b"acTL": 8, b"fcTL": 26,
            b"cICP": 4}  # fmt: skip
_KEY_LENGTHS = {0: (2, 2), 2: (6, 6), 3: (1, 256)}  # of tRNS, by colour type
_GREY, _RGB = 0, 2  # colour types
_MAX_TEXT = 1024 * 1024  # what Pillow accepts in a compressed chunk
_MAX_UNPACKED = 8 * _MAX_TEXT
_SIXTEEN = 16
_BAND_PIXELS = 1_000_000


class Chunk(NamedTuple):
    """A chunk: where it begins, where its data begin and end; its checksum follows them."""

    kind: bytes
    start: int
    first: int
    last: int

    @property
    def end(self) -> int:
        """Where the next chunk begins."""
        return self.last + 4


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to IEND; stops at one that is not complete or has no valid name."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data) or not kind.isalpha():
            return
        yield Chunk(kind, at, at + 8, at + 8 + length)
        if kind == b"IEND":
            return
        at += 12 + length


def without_damage(data: bytes) -> tuple[bytes, list[str]]:
    """Return the file without damaged chunks that hold no pixels, and notes on the damage.

    The file is returned as it is if there is nothing to leave out.
    """
    every = list(chunks(data))
    if not every or every[0].kind != b"IHDR" or every[0].last - every[0].first != 13:
        return data, []
    notes: dict[str, None] = {}
    dropped: set[Chunk] = set()
    budget = _MAX_UNPACKED
    for chunk in every:
        problem = _checksum_problem(data, chunk)
        if problem is None and chunk.kind not in _CRITICAL:
            problem, unpacked = _problem(data, chunk, budget)
            budget -= unpacked
        if problem is None:
            continue
        notes[f"PNG: its {chunk.kind.decode()} chunk {problem}"] = None
        if chunk.kind not in _CRITICAL and not _is_only_noted(chunk.kind):
            dropped.add(chunk)
    end = every[-1].end
    if every[-1].kind != b"IEND":
        notes["PNG: its end is missing"] = None
    elif end < len(data):
        notes[f"PNG: {len(data) - end} bytes follow its end"] = None
    return (_joined(data, [c for c in every if c not in dropped]) if dropped else data), list(notes)


def pixels_only(data: bytes) -> bytes:
    """Return the file with only its header, palette, colour key and pixels."""
    every = list(chunks(data))
    head = data[24:26]
    return _joined(
        data,
        [
            chunk
            for chunk in every
            if chunk.kind in _CRITICAL or (chunk.kind == b"tRNS" and _key_fits(head, chunk))
        ],
    )


def _joined(data: bytes, every: list[Chunk]) -> bytes:
    """Return a file of these chunks. Without IEND, what follows the last one stays as it is."""
    pieces = [SIGNATURE, *(data[chunk.start : chunk.end] for chunk in every)]
    if every and every[-1].kind != b"IEND":
        pieces.append(data[every[-1].end :])
    return b"".join(pieces)


def _is_only_noted(kind: bytes) -> bool:
    """Whether Pillow reads the picture none the less."""
    return kind == b"eXIf"


def _checksum_problem(data: bytes, chunk: Chunk) -> str | None:
    checksum = zlib.crc32(memoryview(data)[chunk.start + 4 : chunk.last])
    if checksum == int.from_bytes(data[chunk.last : chunk.end]):
        return None
    return "has a wrong checksum"


def _problem(data: bytes, chunk: Chunk, budget: int) -> tuple[str | None, int]:
    """Return what is wrong with a chunk, and how many bytes were decompressed to know it."""
    if chunk.kind in _COMPRESSED:
        return _compressed_problem(data, chunk, budget)
    length = chunk.last - chunk.first
    expected = _LENGTHS.get(chunk.kind, length)
    problem = None
    if length != expected:
        problem = f"has {length} bytes, not {expected}"
    elif chunk.kind == b"tRNS" and not _key_fits(data[24:26], chunk):
        problem = "does not fit its colours"
    elif chunk.kind == b"eXIf" and not is_exif(data[chunk.first : chunk.last]):
        problem = "is no EXIF block"
    elif chunk.kind == b"tEXt" and length > _MAX_TEXT:
        problem = f"has {length} bytes"
    return problem, 0


def _compressed_problem(data: bytes, chunk: Chunk, budget: int) -> tuple[str | None, int]:
    length = chunk.last - chunk.first
    rest = data[chunk.first : chunk.last].partition(b"\0")[2]
    if chunk.kind == b"iTXt":
        is_compressed, rest = rest[:1] == b"\1", rest[1:]
        if not is_compressed:
            return (f"has {length} bytes" if length > _MAX_TEXT else None), 0
    if rest[:1] != b"\0":
        return "has no known compression", 0
    packed = rest[1:]
    if chunk.kind == b"iTXt":
        packed = packed.partition(b"\0")[2].partition(b"\0")[2]
    return _unpacking_problem(packed, budget)


def _unpacking_problem(packed: bytes, budget: int) -> tuple[str | None, int]:
    limit = min(_MAX_TEXT, budget)
    if limit <= 0:
        return f"was not read after {_MAX_UNPACKED} bytes of others", 0
    unpacker = zlib.decompressobj()
    try:
        length = len(unpacker.decompress(packed, limit))
    except zlib.error:
        return "cannot be decompressed", 0
    if unpacker.unconsumed_tail:
        return f"has more than {limit} bytes when decompressed", length
    return None, length


def is_exif(block: bytes) -> bool:
    """Return whether a block begins with a directory of tags that lies inside of it."""
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] not in {b"II*\0", b"MM\0*"}:
        return False
    order = "<" if block[:1] == b"I" else ">"
    try:
        (offset,) = struct.unpack_from(order + "I", block, 4)
        directory = tiff_tags.directory_at(block, order, offset)
        for tag in directory.entries:
            directory.raw(tag)
    except (PictureError, struct.error):
        return False
    return directory.is_complete


def _key_fits(head: bytes, chunk: Chunk) -> bool:
    """Whether a tRNS chunk has the length for the colour type in `head`, depth and type."""
    shortest, longest = _KEY_LENGTHS.get(head[1], (0, 0))
    return shortest <= chunk.last - chunk.first <= longest


def with_right_key(image: Image.Image, data: bytes) -> Image.Image:
    """Correct the transparent colour of a loaded PNG where Pillow compares it wrongly.

    The key of 2- and 4-bit grey is compared with samples that Pillow scaled to 8 bits. The key of
    16-bit RGB has three samples of 16 bits, of which Pillow has only the high bytes.
    """
    depth, colour = data[24], data[25]
    key = image.info.get("transparency")
    if colour == _GREY and depth in {2, 4} and isinstance(key, int):
        top = (1 << depth) - 1
        image.info["transparency"] = (key & top) * 255 // top
    if colour == _RGB and depth == _SIXTEEN and isinstance(key, tuple):
        mask = _opaque(image, data, key)
        del image.info["transparency"]
        image.putalpha(mask)
    return image


def _opaque(image: Image.Image, data: bytes, key: tuple[int, ...]) -> Image.Image:
    """Return 255 where a 16-bit RGB picture is not of the colour `key`, else 0."""
    with PngImagePlugin.PngImageFile(io.BytesIO(data)) as low:
        # Read as little-endian samples, the high bytes that Pillow takes are the low ones.
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
        low.load()
        mask = np.zeros((image.height, image.width), np.uint8)
        step = max(1, _BAND_PIXELS // image.width)
        for top in range(0, image.height, step):
            box = (0, top, image.width, min(top + step, image.height))
            high_bytes, low_bytes = np.asarray(image.crop(box)), np.asarray(low.crop(box))
            same = (high_bytes == [sample >> 8 for sample in key]) & (
                low_bytes == [sample & 255 for sample in key]
            )
            mask[top : box[3]] = np.where(same.all(axis=2), 0, 255)
    return Image.fromarray(mask)
