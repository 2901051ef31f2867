"""Writes TIFFs of any layout from samples, by the specification and without a library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

RAW, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
SHORT, LONG, LONG8 = 3, 4, 16
FORMATS = {"u": 1, "i": 2, "f": 3}


def packed_bits(values: np.ndarray, bits: int) -> bytes:
    """Rows of samples that are no whole bytes, each row padded to whole bytes."""
    flags = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(flags.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def lzw(data: bytes) -> bytes:
    """Codes of 9 bits that never refer back: a clear code comes before they would grow."""
    bits = ""
    for number, byte in enumerate(data):
        bits += (f"{256:09b}" if number % 250 == 0 else "") + f"{byte:09b}"
    bits += f"{257:09b}"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def packbits(data: bytes) -> bytes:
    pieces = [data[at : at + 128] for at in range(0, len(data), 128)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


COMPRESS = {RAW: bytes, LZW: lzw, DEFLATE: zlib.compress, PACKBITS: packbits}


def differences(block: np.ndarray) -> np.ndarray:
    """The horizontal predictor, of a block (rows, width, samples)."""
    whole = block.view(f"{block.dtype.byteorder}u{block.dtype.itemsize}")
    native = whole.astype(whole.dtype.newbyteorder("="))
    changed = native.copy()
    changed[:, 1:] = native[:, 1:] - native[:, :-1]
    return changed.astype(whole.dtype)


def float_differences(block: np.ndarray) -> np.ndarray:
    """The floating-point predictor: high bytes first, then differences of bytes."""
    rows, width, samples = block.shape
    size = block.dtype.itemsize
    big = block.astype(f">f{size}").view(np.uint8).reshape(rows, width * samples, size)
    planes = big.swapaxes(1, 2).reshape(rows, -1)
    changed = planes.copy()
    changed[:, samples:] = planes[:, samples:] - planes[:, :-samples]
    return changed


def encoded(block: np.ndarray, *, bits: int, compression: int, predictor: int) -> bytes:
    if bits % 8:
        raw = packed_bits(block.reshape(len(block), -1), bits)
    elif predictor == 3:
        raw = float_differences(block).tobytes()
    else:
        raw = (differences(block) if predictor == 2 else block).tobytes()
    return COMPRESS[compression](raw)


def blocks_of(samples: np.ndarray, tile: tuple[int, int] | None, rows: int) -> list[np.ndarray]:
    """Strips of `rows` rows, or tiles (width, height) padded with zeros."""
    height, width = samples.shape[:2]
    if tile is None:
        return [samples[top : top + rows] for top in range(0, height, rows)]
    across, down = tile
    pad = ((0, -height % down), (0, -width % across), (0, 0))
    padded = np.pad(samples, pad)
    return [
        np.ascontiguousarray(padded[top : top + down, left : left + across])
        for top in range(0, height, down)
        for left in range(0, width, across)
    ]


def tiff(
    samples: np.ndarray,
    photometric: int | None,
    *,
    bits: int | None = None,
    order: str = "<",
    big: bool = False,
    compression: int = RAW,
    predictor: int = 1,
    planar: bool = False,
    tile: tuple[int, int] | None = None,
    rows: int = 7,
    extra: Sequence[int] = (),
    more: Mapping[int, Sequence[int]] | None = None,
    after: bytes = b"",
) -> bytes:
    """A TIFF of `samples`, (height, width) or (height, width, samples); `more` are further tags."""
    if samples.ndim == 2:
        samples = samples[..., None]
    bits = bits or samples.dtype.itemsize * 8
    kind = FORMATS[samples.dtype.kind]
    samples = samples.astype(samples.dtype.newbyteorder(order))
    planes = [samples[..., n : n + 1] for n in range(samples.shape[2])] if planar else [samples]
    pieces = [
        encoded(block, bits=bits, compression=compression, predictor=predictor)
        for plane in planes
        for block in blocks_of(np.ascontiguousarray(plane), tile, rows)
    ]
    head = 16 if big else 8
    offsets = [head + sum(map(len, pieces[:n])) for n in range(len(pieces))]
    height, width, count = samples.shape
    tags: dict[int, Sequence[int]] = {
        256: [width], 257: [height], 258: [bits] * count, 259: [compression], 277: [count],
        284: [2 if planar else 1], 339: [kind] * count,
    }  # fmt: skip
    if photometric is not None:
        tags[262] = [photometric]
    if predictor != 1:
        tags[317] = [predictor]
    if extra:
        tags[338] = list(extra)
    lengths = [len(piece) for piece in pieces]
    if tile is None:
        tags |= {273: offsets, 278: [rows], 279: lengths}
    else:
        tags |= {322: [tile[0]], 323: [tile[1]], 324: offsets, 325: lengths}
    return with_directory(b"".join(pieces), tags | dict(more or {}), order, big=big, after=after)


def with_directory(
    body: bytes,
    tags: Mapping[int, Sequence[int]],
    order: str = "<",
    *,
    big: bool = False,
    after: bytes = b"",
    following: int = 0,
) -> bytes:
    """A file of a header, `body`, one directory of LONG values, and `after`."""
    pointer, kind, count = ("Q", LONG8, "Q") if big else ("I", LONG, "H")
    head = 16 if big else 8
    start = head + len(body)
    size = (8 + 20 * len(tags) + 8) if big else (2 + 12 * len(tags) + 4)
    inline = 8 if big else 4
    entries, values = b"", b""
    for tag in sorted(tags):
        numbers = struct.pack(f"{order}{len(tags[tag])}{pointer}", *tags[tag])
        if len(numbers) > inline:
            place = struct.pack(order + pointer, start + size + len(values))
            values += numbers
        else:
            place = numbers.ljust(inline, b"\0")
        entries += struct.pack(f"{order}HH{pointer}", tag, kind, len(tags[tag])) + place
    mark = b"II" if order == "<" else b"MM"
    header = mark + struct.pack(order + "H", 43 if big else 42)
    if big:
        header += struct.pack(order + "HH", 8, 0)
    header += struct.pack(order + pointer, start)
    directory = struct.pack(order + count, len(tags)) + entries
    return header + body + directory + struct.pack(order + pointer, following) + values + after
