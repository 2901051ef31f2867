"""Decides by the tags of a TIFF how its samples become pixels, and reads those Pillow gets wrong.

Pillow chooses by its own modes, and reads some files as if other tags stood there: 16-bit
WhiteIsZero as its negative, 16-bit planes as garbage, 32-bit unsigned samples as signed ones.
Here the tags decide: `layout_of` refuses by name what is not understood, and `TiffLayout.decoded`
computes the pixels from the specification (TIFF 6.0). Pillow's libtiff only decompresses.

Unsigned samples have their nominal range, except those of 32 bits that nowhere reach a 256th of it.
Those and signed and floating-point grey levels are scaled from their smallest to their largest
finite value (NaN is black). Floating-point RGB is read within 0 to 1.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import OPEN_INFO, TiffImageFile

from pool3.errors import PictureError
from pool3.images import tiff_tags as tags
from pool3.images.tiff_tags import Directory

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, SEPARATED, YCBCR, CIELAB = (
    0, 1, 2, 3, 4, 5, 6, 8,
)  # fmt: skip
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, SEPARATED: 4, YCBCR: 3,
            CIELAB: 3}  # fmt: skip
_PHOTOMETRICS = {
    MASK: "a transparency mask", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "a camera's raw samples",
    32844: "LogL", 32845: "LogLuv", 34892: "a camera's linear raw samples",
}  # fmt: skip
_RAW, _OLD_JPEG, _JPEG = 1, 6, 7
_CCITT = frozenset({2, 3, 4, 32771})
_PREDICTING = frozenset({5, 8, 32946, 34925, 50000})
_BYTES = frozenset({_RAW, 32773}) | _PREDICTING
"""Compressions of plain bytes: none, LZW, Deflate (two numbers), PackBits, LZMA, Zstandard."""

_COMPRESSIONS = {
    34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC", 33003: "JPEG 2000",
    33005: "JPEG 2000", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 34892: "lossy JPEG",
    34713: "Nikon raw", 32767: "Sony raw", 65535: "Pentax raw",
}  # fmt: skip
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_FORMATS = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOAT: "floating-point"}
_ASSOCIATED, _ALPHA = 1, frozenset({1, 2, 999})  # 999: CorelDRAW
_FULL = 255.0
_BAND_BYTES = 1_000_000
_TOLERANCE = 1e-3
_MAX_BLOCKS = 1_000_000
_OUTPUT_BYTES = {"L": 6, "LA": 16, "RGB": 8, "RGBA": 16, "CMYK": 16}
"""Of the pixels as an array, as a picture, and as the pictures that it is converted to."""

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPED = frozenset({5, 6, 7, 8})


def _refuse(what: str) -> PictureError:
    return PictureError("unsupported_format", f"TIFF with {what}; convert it to 8-bit RGB")


@dataclass(frozen=True)
class TiffLayout:
    """How the samples of the main picture of a TIFF are stored.

    Attributes
    ----------
    directory
        Its tags.
    width, height
        Of the stored pixels, before their orientation.
    photometric, samples, planar, compression, predictor
        Values of the tags of these names.
    bits, sample_format
        Of each sample.
    extra
        Meanings of the samples beyond the colours.
    """

    directory: Directory
    width: int
    height: int
    photometric: int
    samples: int
    bits: int
    sample_format: int
    planar: bool
    compression: int
    predictor: int
    extra: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        swapped = self.orientation in _SWAPPED
        return (self.height, self.width) if swapped else (self.width, self.height)

    @property
    def orientation(self) -> int:
        """The number of the orientation, 1 if the tag is missing or damaged."""
        try:
            return self.directory.integer(tags.ORIENTATION, 1)
        except PictureError:
            return 1

    @property
    def colours(self) -> int:
        """The number of samples that are no extra samples."""
        return _COLOURS[self.photometric]

    @property
    def by_pillow(self) -> bool:
        """Whether Pillow reads it as the specification says."""
        if self.compression not in _BYTES or self.photometric in {YCBCR, CIELAB}:
            return True
        if tags.PHOTOMETRIC not in self.directory or self.planar:
            return False
        # Pillow takes 16-bit grey for black at zero, and reads it no faster.
        right = self.bits == 8 or (self.bits == 16 and self.photometric in {RGB, SEPARATED})
        return right and self.sample_format == _UNSIGNED and self._key in OPEN_INFO

    @property
    def _key(self) -> tuple[object, ...]:
        """By which Pillow chooses how it reads the samples."""
        order = b"II" if self.directory.order == "<" else b"MM"
        fill_order = self.directory.integer(tags.FILL_ORDER, 1)
        bits = (self.bits,) * self.samples
        return (order, self.photometric, (_UNSIGNED,), fill_order, bits, self.extra)

    @property
    def readable(self) -> bool:
        """Whether `decoded` can read it."""
        return self.compression in _BYTES and self.photometric not in {YCBCR, CIELAB}

    @cached_property
    def block(self) -> tuple[int, int]:
        """Width and height of a tile, or of a strip."""
        if tags.TILE_WIDTH in self.directory:
            width = self.directory.integer(tags.TILE_WIDTH, 0)
            height = self.directory.integer(tags.TILE_LENGTH, 0)
        else:
            width = self.width
            height = min(self.directory.integer(tags.ROWS_PER_STRIP, self.height), self.height)
        if min(width, height) < 1:
            raise PictureError("corrupt", "TIFF: its strips or tiles have no pixels")
        return width, height

    @property
    def stored_pixels(self) -> int:
        """Pixels including those of tiles that reach beyond the edges."""
        width, height = self.block
        return -(-self.width // width) * width * -(-self.height // height) * height

    @property
    def pixel_bytes(self) -> int:
        """Bytes of memory per pixel, at most, that `decoded` and the conversion to RGB need."""
        return 2 * -(-self.samples * self.bits // 8) + _OUTPUT_BYTES[self._mode]

    def decoded(self) -> Image.Image:
        """Return the upright picture as 8-bit L, LA, RGB, RGBA or CMYK, with its colour profile."""
        rows = _rows(self)
        image = Image.fromarray(_pixels(self, rows), self._mode)
        transpose = _TRANSPOSES.get(self.orientation)
        if transpose is not None:
            image = image.transpose(transpose)
        profile = _profile(self.directory)
        if profile is not None:
            image.info["icc_profile"] = profile
        return image

    @property
    def alpha(self) -> int | None:
        """Which sample is the transparency; None if there is none."""
        places = [number for number, meaning in enumerate(self.extra) if meaning in _ALPHA]
        return self.colours + places[0] if places else None

    @property
    def _mode(self) -> str:
        if self.photometric == SEPARATED:
            return "CMYK"
        grey = self.photometric in {WHITE_IS_ZERO, BLACK_IS_ZERO}
        return ("L" if grey else "RGB") + ("" if self.alpha is None else "A")


def _profile(directory: Directory) -> bytes | None:
    try:
        return directory.raw(tags.ICC_PROFILE) if tags.ICC_PROFILE in directory else None
    except PictureError:  # damage to it never costs the picture
        return None


def layout_of(data: bytes) -> TiffLayout:
    """Return how the main picture of a TIFF is stored.

    Raises
    ------
    PictureError
        ``unsupported_format`` with the name of what cannot be read, ``truncated`` or ``corrupt``.
    """
    if data[8:10] == b"CR" and data[:2] == b"II":
        raise PictureError("unsupported_format", "Canon raw (CR2); convert it to JPEG or TIFF")
    directory = tags.main_directory(data)
    if not directory.is_complete:
        raise PictureError("truncated", "TIFF: its directory ends after the file")
    compression = directory.integer(tags.COMPRESSION, _RAW)
    photometric = _photometric(directory, compression)
    if photometric not in _COLOURS:
        name = _PHOTOMETRICS.get(photometric, "an unknown meaning of its samples")
        raise _refuse(f"{name} (PhotometricInterpretation {photometric})")
    if compression not in _BYTES | _CCITT | {_JPEG, _OLD_JPEG}:
        name = _COMPRESSIONS.get(compression, "an unknown compression")
        raise _refuse(f"{name} inside (Compression {compression})")
    default = 3 if compression in {_JPEG, _OLD_JPEG} and photometric in {RGB, YCBCR} else 1
    samples = directory.integer(tags.SAMPLES_PER_PIXEL, default)
    if samples > tags.MAX_SAMPLES:
        raise _refuse(f"{samples} samples a pixel, more than {tags.MAX_SAMPLES}")
    layout = TiffLayout(
        directory=directory,
        width=directory.integer(tags.WIDTH, 0),
        height=directory.integer(tags.LENGTH, 0),
        photometric=photometric,
        samples=samples,
        bits=_same(directory, tags.BITS_PER_SAMPLE, 1, samples),
        sample_format=_same(directory, tags.SAMPLE_FORMAT, _UNSIGNED, samples),
        planar=directory.integer(tags.PLANAR_CONFIGURATION, 1) == 2 and samples > 1,
        compression=compression,
        predictor=directory.integer(tags.PREDICTOR, 1) if compression in _PREDICTING else 1,
        extra=_extra(directory, samples - _COLOURS[photometric]),
    )
    _check(layout)
    return layout


def _photometric(directory: Directory, compression: int) -> int:
    """Return the meaning of the samples; where the tag is missing, as libtiff assumes it."""
    if tags.PHOTOMETRIC in directory:
        return directory.integer(tags.PHOTOMETRIC, WHITE_IS_ZERO)
    if compression not in _BYTES:
        raise _refuse("no PhotometricInterpretation, so its samples have no meaning")
    return BLACK_IS_ZERO if directory.integer(tags.SAMPLES_PER_PIXEL, 1) < 3 else RGB


def _same(directory: Directory, tag: int, default: int, samples: int) -> int:
    """Return the value of a tag that stands once per sample."""
    values = set(directory.integers(tag, (default,))[:samples])
    if len(values) != 1:
        raise _refuse(f"samples of different kinds (tag {tag}: {sorted(values)})")
    (value,) = values
    return _UNSIGNED if tag == tags.SAMPLE_FORMAT and value == 4 else value


def _extra(directory: Directory, count: int) -> tuple[int, ...]:
    if count < 0:
        raise PictureError("corrupt", "TIFF: fewer samples than its colours need")
    if count == 0:
        return ()
    extra = directory.integers(tags.EXTRA_SAMPLES)
    if not extra and count == 1 and directory.integer(tags.PHOTOMETRIC, 0) == RGB:
        return (2,)  # as Pillow and others read it: the fourth sample is transparency
    if len(extra) < count:
        raise _refuse("more samples than colours, and no ExtraSamples that say what they are")
    return extra[:count]


def _check(layout: TiffLayout) -> None:
    """Refuse what neither Pillow nor `decoded` reads right."""
    if min(layout.width, layout.height) < 1:
        raise PictureError("corrupt", "TIFF: it has no pixels")
    grey = layout.photometric in {WHITE_IS_ZERO, BLACK_IS_ZERO}
    form, bits, alpha = layout.sample_format, layout.bits, layout.alpha
    name = f"{bits}-bit {_FORMATS.get(form, 'complex or unknown')} samples"
    widths = {_UNSIGNED: {*range(1, 17), 32}, _SIGNED: {8, 16, 32}, _FLOAT: {16, 32, 64}}
    if bits not in widths.get(form, ()):
        raise _refuse(name)
    if form == _SIGNED and (not grey or alpha is not None):
        raise _refuse(f"{name} that are not only grey")
    if form == _UNSIGNED and bits > 16 and not grey:
        raise _refuse(f"{name} that are not grey")
    if form == _FLOAT and not (grey or layout.photometric == RGB):
        raise _refuse(f"{name} that are neither grey nor RGB")
    if layout.photometric == PALETTE and bits > 8:
        raise _refuse(f"a palette and {name}")
    if layout.photometric == SEPARATED:
        if layout.directory.integer(tags.INK_SET, 1) != 1:
            raise _refuse("inks that are not CMYK")
        if alpha is not None:
            raise _refuse("CMYK and transparency")
    if layout.photometric in {WHITE_IS_ZERO, PALETTE} and _ASSOCIATED in layout.extra:
        raise _refuse("premultiplied transparency that is neither RGB nor BlackIsZero")
    if layout.predictor not in {1, 2, 3} or (
        layout.predictor > 1 and (bits % 8 or (layout.predictor == 3 and form != _FLOAT))
    ):
        raise _refuse(f"the predictor {layout.predictor} for {name}")
    if not layout.readable:
        _check_pillow(layout, name)


def _check_pillow(layout: TiffLayout, name: str) -> None:
    """Refuse what only Pillow could read, and reads wrong."""
    if layout.compression in _CCITT:
        if layout.samples != 1 or layout.bits != 1 or layout.photometric not in {0, 1}:
            raise _refuse(f"fax compression and {layout.samples} x {name}")
        return
    if layout.bits != 8 or layout.sample_format != _UNSIGNED:
        raise _refuse(f"{name} in JPEG, YCbCr or L*a*b*")
    if layout.planar:
        raise _refuse("planes of JPEG, YCbCr or L*a*b*")
    if layout.extra:
        raise _refuse("extra samples in JPEG, YCbCr or L*a*b*")
    if layout.photometric == PALETTE:
        raise _refuse("a palette in JPEG")
    subsampling = layout.directory.integers(tags.YCBCR_SUBSAMPLING, (2, 2))
    if layout.photometric == YCBCR and layout.compression == _RAW and subsampling != (1, 1):
        raise _refuse("uncompressed YCbCr of reduced colour resolution")


def _rows(layout: TiffLayout) -> list[Image.Image]:
    """Decompress each plane into a picture whose pixels are bytes."""
    tiled = tags.TILE_WIDTH in layout.directory
    offsets_tag = tags.TILE_OFFSETS if tiled else tags.STRIP_OFFSETS
    counts_tag = tags.TILE_BYTE_COUNTS if tiled else tags.STRIP_BYTE_COUNTS
    if offsets_tag not in layout.directory:
        raise PictureError("corrupt", "TIFF: the offsets of its strips or tiles are missing")
    width, height = layout.block
    across, down = -(-layout.width // width), -(-layout.height // height)
    # Planes beyond the colours and the transparency are not needed, and are missing in some files.
    needed = layout.colours if layout.alpha is None else layout.alpha + 1
    planes = needed if layout.planar else 1
    count = across * down
    if count * planes > _MAX_BLOCKS:
        raise _refuse(f"{count * planes} strips or tiles, more than {_MAX_BLOCKS}")
    offsets = layout.directory.integers(offsets_tag, most=count * planes)
    if len(offsets) < count * planes:
        raise PictureError("corrupt", f"TIFF: {len(offsets)} strips or tiles, not {count * planes}")
    lengths = _lengths(layout, counts_tag, offsets, count * planes)
    if max(o + n for o, n in zip(offsets, lengths, strict=False)) > len(layout.directory.data):
        raise PictureError("truncated", "TIFF: its strips or tiles end after the file")
    return [
        _plane(layout, offsets[at : at + count], lengths[at : at + count])
        for at in range(0, planes * count, count)
    ]


def _lengths(layout: TiffLayout, tag: int, offsets: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return how many bytes each strip or tile has in the file."""
    lengths = layout.directory.integers(tag, most=count)
    needed = _uncompressed(layout, count) if layout.compression == _RAW else None
    if len(lengths) < count:
        rest = tuple(len(layout.directory.data) - offset for offset in offsets[:count])
        return rest if needed is None else needed
    if needed is None:
        return lengths
    if any(length < least for length, least in zip(lengths, needed, strict=True)):
        raise PictureError("corrupt", "TIFF: its strips or tiles are shorter than their pixels")
    return needed


def _uncompressed(layout: TiffLayout, count: int) -> tuple[int, ...]:
    """Return how many bytes the pixels of each strip or tile take."""
    width, height = layout.block
    row = _row_bytes(layout, width)
    if tags.TILE_WIDTH in layout.directory:
        return (row * height,) * count
    down = -(-layout.height // height)
    last = layout.height - (down - 1) * height
    return ((row * height,) * (down - 1) + (row * last,)) * (count // down)


def _row_bytes(layout: TiffLayout, width: int) -> int:
    samples = 1 if layout.planar else layout.samples
    return -(-width * samples * layout.bits // 8)


def _plane(layout: TiffLayout, offsets: tuple[int, ...], lengths: tuple[int, ...]) -> Image.Image:
    """Decompress a plane with Pillow, described as 8-bit grey whose pixels are its bytes."""
    width, height = layout.block
    row = _row_bytes(layout, width)
    across = -(-layout.width // width)
    entries: dict[int, tuple[int, ...]] = {
        tags.WIDTH: (row * across,),
        tags.LENGTH: (layout.height,),
        tags.BITS_PER_SAMPLE: (8,),
        tags.COMPRESSION: (layout.compression,),
        tags.PHOTOMETRIC: (BLACK_IS_ZERO,),
        tags.FILL_ORDER: (layout.directory.integer(tags.FILL_ORDER, 1),),
        tags.SAMPLES_PER_PIXEL: (1,),
    }
    if tags.TILE_WIDTH in layout.directory:
        entries |= {tags.TILE_WIDTH: (row,), tags.TILE_LENGTH: (height,)}
        entries |= {tags.TILE_OFFSETS: offsets, tags.TILE_BYTE_COUNTS: lengths}
    else:
        entries |= {tags.STRIP_OFFSETS: offsets, tags.ROWS_PER_STRIP: (height,)}
        entries |= {tags.STRIP_BYTE_COUNTS: lengths}
    file = io.BytesIO(_with_directory(layout.directory.data, entries))
    image = _Bytes(file)
    image.load()
    return image


class _Bytes(TiffImageFile):
    """A plane as a picture whose pixels are bytes, which are more than Pillow's limit allows.

    The pixels of the picture itself have been compared with the limits.
    """

    def load_prepare(self) -> None:
        ImageFile.ImageFile.load_prepare(self)


def _with_directory(data: bytes, entries: dict[int, tuple[int, ...]]) -> bytes:
    """Return the file as a little-endian TIFF with one more directory, which is its first."""
    start = len(data) + len(data) % 2
    end = start + 2 + 12 * len(entries) + 4
    directory, values = struct.pack("<H", len(entries)), b""
    for tag in sorted(entries):
        numbers = struct.pack(f"<{len(entries[tag])}I", *entries[tag])
        if len(numbers) > 4:
            place, values = struct.pack("<I", end + len(values)), values + numbers
        else:
            place = numbers
        directory += struct.pack("<HHI", tag, 4, len(entries[tag])) + place
    header = b"II*\0" + struct.pack("<I", start)
    padding = bytes(len(data) % 2)
    return b"".join((header, data[8:], padding, directory, bytes(4), values))


def _pixels(layout: TiffLayout, planes: list[Image.Image]) -> NDArray[np.uint8]:
    """Return uint8 (height, width) or (height, width, channels), for `TiffLayout._mode`."""
    low, high = _range(layout, planes)
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[layout._mode]
    pixels = np.zeros((layout.height, layout.width, channels), np.uint8)
    table = _palette(layout) if layout.photometric == PALETTE else None
    at = 0
    for samples in _bands(layout, planes):
        colours = samples[..., : layout.colours]
        if table is not None:
            scaled = table[np.minimum(colours[..., 0], len(table) - 1)]
        else:
            scaled = _scaled(colours, low, high)
            if layout.photometric == WHITE_IS_ZERO:
                scaled = _FULL - scaled
        band = pixels[at : at + len(samples)]
        if layout.alpha is not None:
            alpha = _scaled(samples[..., layout.alpha], 0, _top(layout))
            if layout.extra[layout.alpha - layout.colours] == _ASSOCIATED:
                with np.errstate(divide="ignore", invalid="ignore"):
                    scaled = np.nan_to_num(scaled * (_FULL / alpha[..., None]), posinf=0)
                scaled = np.minimum(scaled, _FULL)
            band[..., -1] = np.rint(alpha)
            band = band[..., :-1]
        band[...] = np.rint(scaled)
        at += len(samples)
    return pixels[..., 0] if channels == 1 else pixels


def _scaled(samples: NDArray[np.generic], low: float, high: float) -> NDArray[np.float64]:
    """Map `low`..`high` to 0..255; NaN is 0."""
    if not high > low:
        return np.zeros(samples.shape)
    scaled = (samples.astype(np.float64) - low) * (_FULL / (high - low))
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=_FULL, neginf=0.0), 0, _FULL)


def _top(layout: TiffLayout) -> float:
    return 1.0 if layout.sample_format == _FLOAT else float((1 << layout.bits) - 1)


def _range(layout: TiffLayout, planes: list[Image.Image]) -> tuple[float, float]:
    """Return the samples of the darkest and of the brightest level."""
    if layout.sample_format == _UNSIGNED and layout.bits < 32:
        return 0.0, _top(layout)
    low, high = np.inf, -np.inf
    for samples in _bands(layout, planes):
        colours = samples[..., : layout.colours]
        finite = colours[np.isfinite(colours)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if layout.sample_format == _UNSIGNED and high * 256 > _top(layout):
        return 0.0, _top(layout)
    if layout.sample_format == _FLOAT and layout.photometric == RGB:
        if low < -_TOLERANCE or high > 1 + _TOLERANCE:
            raise _refuse(f"floating-point RGB outside 0 to 1 ({low:g} to {high:g})")
        return 0.0, 1.0
    return low, high


def _bands(layout: TiffLayout, planes: list[Image.Image]) -> Iterator[NDArray[np.generic]]:
    """Yield the samples of some rows at a time, (rows, width, samples)."""
    width = sum(plane.width for plane in planes)
    step = max(1, _BAND_BYTES // max(width, layout.width * layout.samples))
    for top in range(0, layout.height, step):
        bottom = min(top + step, layout.height)
        by_plane = [
            _samples(layout, np.asarray(plane.crop((0, top, plane.width, bottom))))
            for plane in planes
        ]
        yield by_plane[0] if len(by_plane) == 1 else np.concatenate(by_plane, axis=2)


def _samples(layout: TiffLayout, rows: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Return the samples of some rows of bytes, (rows, width, samples of the plane)."""
    width, _ = layout.block
    per_pixel = 1 if layout.planar else layout.samples
    row = _row_bytes(layout, width)
    blocks = rows.reshape(len(rows), -1, row)
    values: NDArray[np.generic]
    if layout.bits % 8:
        values = _unpacked(blocks, width * per_pixel, layout.bits)
    else:
        code = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}[layout.sample_format]
        size = layout.bits // 8
        if layout.predictor == 3:
            values = _undone_float(blocks, per_pixel, size).view(f">f{size}")
        elif layout.predictor == 2:
            whole = blocks.view(f"{layout.directory.order}u{size}").astype(f"u{size}")
            values = _undone(whole, per_pixel).view(f"{code}{size}")
        else:
            values = blocks.view(f"{layout.directory.order}{code}{size}")
    return values.reshape(len(rows), -1, per_pixel)[:, : layout.width]


def _undone(values: NDArray[Any], per_pixel: int) -> NDArray[Any]:
    """Undo the horizontal predictor: differences between neighbouring pixels of a block."""
    by_pixel = values.reshape(*values.shape[:2], -1, per_pixel)
    return np.cumsum(by_pixel, axis=2, dtype=values.dtype)


def _undone_float(blocks: NDArray[np.uint8], per_pixel: int, size: int) -> NDArray[np.uint8]:
    """Undo the floating-point predictor: differences of bytes, the highest bytes first."""
    rows, across, length = blocks.shape
    summed = np.cumsum(blocks.reshape(rows, across, -1, per_pixel), axis=2, dtype=np.uint8)
    by_byte = summed.reshape(rows, across, size, length // size)
    return np.ascontiguousarray(by_byte.swapaxes(2, 3)).reshape(rows, across, length)


def _unpacked(blocks: NDArray[np.uint8], count: int, bits: int) -> NDArray[np.uint16]:
    """Return samples of less than 16 bits that are packed from the highest bit on."""
    flags = np.unpackbits(blocks, axis=2, count=count * bits)
    flags = flags.reshape(*blocks.shape[:2], count, bits)
    values = np.zeros(flags.shape[:3], np.uint16)
    for bit in range(bits):
        values <<= 1
        values |= flags[..., bit]
    return values


def _palette(layout: TiffLayout) -> NDArray[np.float64]:
    """Return the colours of a palette, 0 to 255, (entries, 3)."""
    entries = 3 << layout.bits
    values = np.array(layout.directory.integers(tags.COLOR_MAP, most=entries), np.float64)
    if values.size == 0 or values.size % 3:
        raise PictureError("corrupt", "TIFF: its palette is missing or incomplete")
    # Some programs write palettes of 8-bit values.
    return values.reshape(3, -1).T / (257.0 if values.max() > _FULL else 1.0)
