"""Reads the directories of a TIFF: which picture of the file is the main one, and its tags.

Reads no pixels. Never trusts a count or an offset: what lies outside of the file is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pool3.errors import PictureError

NEW_SUBFILE_TYPE: Final = 254
SUBFILE_TYPE: Final = 255
WIDTH: Final = 256
LENGTH: Final = 257
BITS_PER_SAMPLE: Final = 258
COMPRESSION: Final = 259
PHOTOMETRIC: Final = 262
FILL_ORDER: Final = 266
STRIP_OFFSETS: Final = 273
ORIENTATION: Final = 274
SAMPLES_PER_PIXEL: Final = 277
ROWS_PER_STRIP: Final = 278
STRIP_BYTE_COUNTS: Final = 279
PLANAR_CONFIGURATION: Final = 284
PREDICTOR: Final = 317
COLOR_MAP: Final = 320
TILE_WIDTH: Final = 322
TILE_LENGTH: Final = 323
TILE_OFFSETS: Final = 324
TILE_BYTE_COUNTS: Final = 325
SUB_DIRECTORIES: Final = 330
INK_SET: Final = 332
EXTRA_SAMPLES: Final = 338
SAMPLE_FORMAT: Final = 339
YCBCR_SUBSAMPLING: Final = 530
ICC_PROFILE: Final = 34675

MAX_SAMPLES: Final = 64
"""Of a pixel; tags that have one value per sample have no more."""

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # by type: BYTE, SHORT, LONG, IFD, LONG8
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_MAX_DIRECTORIES = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag: its type, how many values it has, and where they begin in the file."""

    kind: int
    count: int
    start: int


@dataclass(frozen=True)
class Directory:
    """The tags of one picture of a TIFF.

    Attributes
    ----------
    data
        The whole file.
    order
        ``<`` or ``>``, as in `struct`.
    big
        Whether the file is a BigTIFF.
    offset
        Where the directory begins.
    entries
        By tag; the first of equal tags counts.
    following
        Offset of the next directory, 0 if there is none.
    is_complete
        Whether all entries are in the file.
    """

    data: bytes
    order: str
    big: bool
    offset: int
    entries: dict[int, Entry]
    following: int
    is_complete: bool

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def raw(self, tag: int) -> bytes:
        """Return the bytes of a tag's values; raises `PictureError` if the file ends before."""
        entry = self.entries[tag]
        end = entry.start + entry.count * _SIZES.get(entry.kind, 1)
        if end > len(self.data):
            raise PictureError("truncated", f"TIFF: the values of tag {tag} are not in the file")
        return self.data[entry.start : end]

    def integers(
        self, tag: int, default: tuple[int, ...] = (), *, most: int = MAX_SAMPLES
    ) -> tuple[int, ...]:
        """Return the first `most` values of a tag of whole numbers, `default` if it is missing."""
        if tag not in self.entries:
            return default
        entry = self.entries[tag]
        if entry.kind not in _INTEGERS or entry.count == 0:
            raise PictureError("corrupt", f"TIFF: tag {tag} has no whole numbers")
        code = f"{self.order}{min(entry.count, most)}{_INTEGERS[entry.kind]}"
        if entry.start + struct.calcsize(code) > len(self.data):
            raise PictureError("truncated", f"TIFF: the values of tag {tag} are not in the file")
        return struct.unpack_from(code, self.data, entry.start)

    def integer(self, tag: int, default: int) -> int:
        """Return the first value of a tag of whole numbers, `default` if it is missing."""
        return self.integers(tag, (default,))[0]

    @property
    def is_main(self) -> bool:
        """Whether this is a picture of full resolution: no preview and no transparency mask."""
        if self.integer(NEW_SUBFILE_TYPE, 0) & (_REDUCED | _MASK):
            return False
        return self.integer(SUBFILE_TYPE, 1) != 2


def main_directory(data: bytes) -> Directory:
    """Return the directory of the first picture of full resolution.

    It is searched in the chain of directories, then in those below them, where raw files and
    pyramids have it.

    Raises
    ------
    PictureError
        If there is no directory, or only previews and masks.
    """
    first = None
    for directory in all_directories(data):
        first = first or directory
        if WIDTH in directory and directory.is_main:
            return directory
    if first is not None and not first.is_complete:
        raise PictureError("truncated", "TIFF: its directory ends after the file")
    if first is None or WIDTH not in first:
        raise PictureError("corrupt", "TIFF: there is no directory with a picture")
    detail = "TIFF with only reduced previews or masks, without the picture of full resolution"
    raise PictureError("unsupported_format", detail)


def all_directories(data: bytes) -> Iterator[Directory]:
    """Yield the chain of directories, then the ones below them; at most 64, each once."""
    order, big, offset = _header(data)
    seen: set[int] = set()
    below: list[int] = []
    while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
        seen.add(offset)
        if offset >= len(data) and len(seen) > 1:
            break
        directory = directory_at(data, order, offset, big=big)
        yield directory
        below += _sub_directories(directory)
        offset = directory.following
    while below and len(seen) < _MAX_DIRECTORIES:
        offset = below.pop(0)
        if offset in seen or not 0 < offset < len(data):
            continue
        seen.add(offset)
        yield (directory := directory_at(data, order, offset, big=big))
        below += _sub_directories(directory)


def _sub_directories(directory: Directory) -> list[int]:
    try:
        return list(directory.integers(SUB_DIRECTORIES))
    except PictureError:  # damage to this tag costs only what is below
        return []


def _header(data: bytes) -> tuple[str, bool, int]:
    """Return byte order, whether it is a BigTIFF, and the offset of the first directory."""
    order = "<" if data[:1] == b"I" else ">"
    big = b"+" in data[2:4]
    start, code = (8, "Q") if big else (4, "I")
    if len(data) < start + struct.calcsize(code):
        raise PictureError("truncated", "TIFF: the header is not complete")
    return order, big, struct.unpack_from(order + code, data, start)[0]


def directory_at(data: bytes, order: str, offset: int, *, big: bool = False) -> Directory:
    """Read the directory at an offset; raises `PictureError` if it begins outside of the file.

    Of a directory that ends outside of the file, the entries inside are read.
    """
    head, entry, pointer = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    first = offset + struct.calcsize("=" + head)
    if offset >= 2**63:
        raise PictureError("corrupt", f"TIFF: its directory cannot begin at {offset}")
    if first > len(data):
        raise PictureError("truncated", "TIFF: its directory is not in the file")
    (count,) = struct.unpack_from(order + head, data, offset)
    size, inline = struct.calcsize("=" + entry), struct.calcsize("=" + pointer)
    inside = min(count, (len(data) - first) // size, 65_535)
    entries: dict[int, Entry] = {}
    for at in range(first, first + inside * size, size):
        tag, kind, length, value = struct.unpack_from(order + entry, data, at)
        start = value if length * _SIZES.get(kind, 1) > inline else at + size - inline
        entries.setdefault(tag, Entry(kind, length, start))
    end = first + inside * size
    following = 0
    if inside == count and end + inline <= len(data):
        (following,) = struct.unpack_from(order + pointer, data, end)
    return Directory(data, order, big, offset, entries, following, inside == count)


def beginning_at(directory: Directory) -> bytes:
    """Return the file with this directory as its first one."""
    start, code = (8, "Q") if directory.big else (4, "I")
    pointer = struct.pack(directory.order + code, directory.offset)
    data = directory.data
    if data.startswith(pointer, start):
        return data
    return data[:start] + pointer + data[start + len(pointer) :]
