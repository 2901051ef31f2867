"""Walks the segments of a JPEG: leaves out damaged ones that hold no pixels, and names the rest.

A JPEG without its end marker is repaired if all its pixels are there.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from PIL import JpegImagePlugin

from pool3.errors import PictureError
from pool3.images import tiff_tags
from pool3.images.png_chunks import is_exif

_EOI = b"\xff\xd9"
_SOS, _APP0, _APP1, _APP2, _APP13, _APP14, _COMMENT = 0xDA, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_STANDALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
_PADDINGS = (b"\x55" * 64, b"\xaa" * 64)
_MARKER = re.compile(rb"\xff+([\xc0-\xcf\xda-\xfe])")
_LAST_COEFFICIENT = 63
_BAND_PIXELS = 1_000_000
_MPF_ENTRIES = 0xB002


class Segment(NamedTuple):
    """A segment: its marker, where that begins, where its data begin and end."""

    marker: int
    start: int
    first: int
    end: int


@dataclass(frozen=True)
class Segments:
    """The segments of a JPEG before its first scan.

    Attributes
    ----------
    data
        The whole file.
    every
        In their order.
    scan
        Where the first scan begins; None if there is none.
    """

    data: bytes
    every: list[Segment]
    scan: int | None

    def content(self, segment: Segment, length: int | None = None) -> bytes:
        """Return the data of a segment, or their first bytes."""
        end = segment.end if length is None else min(segment.end, segment.first + length)
        return self.data[segment.first : end]

    @property
    def frame(self) -> Segment | None:
        """The frame header: size, precision and components."""
        return next((segment for segment in self.every if segment.marker in _FRAMES), None)

    @cached_property
    def end(self) -> int | None:
        """Where the last end marker ends; None if there is none."""
        if self.data.endswith(_EOI):
            return len(self.data)
        at = self.data.rfind(_EOI, self.scan or 0)
        return None if at < 0 else at + 2


def segments_of(data: bytes) -> Segments:
    """Read the segments up to the first scan; stops at one that is not complete."""
    every: list[Segment] = []
    at, size = 2, len(data)
    while at + 4 <= size:
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:  # bytes between segments, or before a marker
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
        elif marker in _STANDALONE:
            at += 2
        elif marker == _SOS:
            return Segments(data, every, at)
        else:
            end = at + 2 + (data[at + 2] << 8 | data[at + 3])
            if end < at + 4 or end > size:  # its length includes the two bytes that state it
                break
            every.append(Segment(marker, at, at + 4, end))
            at = end
    return Segments(data, every, None)


def without_damage(data: bytes) -> tuple[bytes, list[str]]:
    """Return the file without damaged segments that hold no pixels, and notes on the damage.

    The file is returned as it is if there is nothing to leave out.

    Raises
    ------
    PictureError
        ``unsupported_format`` if its samples have not 8 bits.
    """
    segments = segments_of(data)
    frame = segments.frame
    if frame is not None and data[frame.first] != 8:
        detail = f"{data[frame.first]}-bit JPEG; convert it to 8 bits"
        raise PictureError("unsupported_format", detail)
    notes: dict[str, None] = {}
    dropped: set[Segment] = set()
    profile: list[bytes] = []
    for segment in segments.every:
        if segment.marker < _APP0:
            continue
        short = _short(segments, segment)
        if short is not None:
            dropped.add(segment)
            notes[f"JPEG: its {short} segment is too short"] = None
        elif (problem := _problem(segments, segment)) is not None:
            notes[f"JPEG: its {problem}"] = None
        if segment.marker == _APP2 and segments.content(segment, 12) == b"ICC_PROFILE\0":
            profile.append(segments.content(segment, 14)[12:])
    if profile and not _is_whole(profile):
        notes["JPEG: its colour profile is incomplete"] = None
    if segments.scan is not None and segments.end is None:
        notes["JPEG: its end marker is missing"] = None
    elif segments.end is not None and segments.end < len(data):
        notes[f"JPEG: {len(data) - segments.end} bytes follow its end"] = None
    return (_without(segments, dropped) if dropped else data), list(notes)


def pixels_only(data: bytes) -> bytes:
    """Return the file without comments and application data, except for JFIF and Adobe."""
    segments = segments_of(data)
    return _without(
        segments,
        {
            segment
            for segment in segments.every
            if segment.marker == _COMMENT
            or (_APP0 <= segment.marker < _APP0 + 16 and segment.marker not in {_APP0, _APP14})
            or _short(segments, segment) is not None
        },
    )


def _without(segments: Segments, dropped: set[Segment]) -> bytes:
    pieces, at = [], 0
    for segment in segments.every:
        if segment in dropped:
            pieces.append(segments.data[at : segment.start])
            at = segment.end
    return b"".join([*pieces, segments.data[at:]])


def _short(segments: Segments, segment: Segment) -> str | None:
    """Return the name of a segment that is too short to be read."""
    length = segment.end - segment.first
    if segment.marker == _APP0 and length < 14 and segments.content(segment, 4) == b"JFIF":
        return "JFIF"
    if segment.marker == _APP14 and length < 12 and segments.content(segment, 5) == b"Adobe":
        return "Adobe"
    return None


def _problem(segments: Segments, segment: Segment) -> str | None:
    if segment.marker == _APP1 and segments.content(segment, 4) == b"Exif":
        return None if is_exif(segments.content(segment)) else "EXIF block is damaged"
    if segment.marker == _APP13 and segments.content(segment, 14) == b"Photoshop 3.0\0":
        whole = _are_resources(segments.content(segment)[14:])
        return None if whole else "Photoshop segment is damaged"
    if segment.marker == _APP2 and segments.content(segment, 4) == b"MPF\0":
        whole = _is_index(segments, segment)
        return None if whole else "index of further pictures (MPO) is damaged"
    return None


def _are_resources(block: bytes) -> bool:
    """Whether a block consists of Photoshop's resources, each of which ends inside of it."""
    at = 0
    while at + 12 <= len(block):
        if block[at : at + 4] not in {b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR"}:
            return False
        name = block[at + 6] + 1
        at += 6 + name + name % 2
        if at + 4 > len(block):
            return False
        length = int.from_bytes(block[at : at + 4])
        at += 4 + length
        if at > len(block):
            return False
        at += length % 2
    return True


def _is_index(segments: Segments, segment: Segment) -> bool:
    """Whether the pictures of an MPO are in the file."""
    block = segments.content(segment)[4:]
    order = "<" if block[:1] == b"I" else ">"
    try:
        (offset,) = struct.unpack_from(order + "I", block, 4)
        entries = tiff_tags.directory_at(block, order, offset).raw(_MPF_ENTRIES)
        pictures = list(struct.iter_unpack(order + "IIIHH", entries))
    except (PictureError, struct.error, KeyError):
        return False
    base = segment.first + 4
    data = segments.data
    return bool(pictures) and all(
        (base + start if start else 0) + length <= len(data)
        and (not start or data.startswith(b"\xff\xd8", base + start))
        for _, length, start, _, _ in pictures
    )


def _is_whole(numbers: list[bytes]) -> bool:
    """Whether pieces of a colour profile, by number and count, are all there."""
    if any(len(number) != 2 for number in numbers):
        return False
    return {number[1] for number in numbers} == {len(numbers)} and {
        number[0] for number in numbers
    } == set(range(1, len(numbers) + 1))


def with_end(data: bytes) -> bytes | None:
    """Return a JPEG that lacks its end marker with one, if all its pixels are there, else None.

    A decoder that runs out of data reads the bytes that are appended here. So the pixels are all
    there if they do not depend on what these bytes are.
    """
    segments = segments_of(data)
    if segments.scan is None or segments.end is not None or not _has_all_scans(segments):
        return None
    if data.endswith(b"\xff"):  # a pixel byte may have been cut in two
        return None
    first = _digest(data + _EOI)
    if first is None or any(_digest(data + padding + _EOI) != first for padding in _PADDINGS):
        return None
    return data + _EOI


def _has_all_scans(segments: Segments) -> bool:
    """Whether the scans cover each coefficient of each component to its last bit."""
    frame = segments.frame
    if frame is None:
        return False
    header = segments.content(frame)
    components = {header[6 + 3 * n] for n in range(header[5]) if 6 + 3 * n < len(header)}
    last = _LAST_COEFFICIENT if frame.marker in _PROGRESSIVE else 0
    missing = {(component, k) for component in components for k in range(last + 1)}
    for scan in _scans(segments):
        covered, first, end, low_bit = scan
        if frame.marker not in _PROGRESSIVE:
            first, end, low_bit = 0, 0, 0
        if low_bit == 0:
            missing -= {(component, k) for component in covered for k in range(first, end + 1)}
    return not missing


def _scans(segments: Segments) -> Iterator[tuple[list[int], int, int, int]]:
    """Yield the components, first and last coefficient and lowest bit of each scan."""
    data = segments.data
    for match in _MARKER.finditer(data, segments.scan or 0):
        if match[1][0] != _SOS:
            continue
        at = match.end() + 2
        count = data[at] if at < len(data) else 0
        if at + 4 + 2 * count > len(data):
            return
        first, end, bits = data[at + 1 + 2 * count : at + 4 + 2 * count]
        yield [data[at + 1 + 2 * n] for n in range(count)], first, min(end, 63), bits & 15


def _digest(data: bytes) -> bytes | None:
    """Return a digest of the decoded pixels, None if they cannot be decoded."""
    digest = hashlib.blake2b()
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
            image.load()
            step = max(1, _BAND_PIXELS // image.width)
            for top in range(0, image.height, step):
                box = (0, top, image.width, min(top + step, image.height))
                digest.update(image.crop(box).tobytes())
    except (OSError, SyntaxError, ValueError):
        return None
    return digest.digest()
