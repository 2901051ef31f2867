"""TIFFs by their tags: each layout has the pixels of the specification, or is refused by name."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pool3.errors import PictureError
from pool3.gallery import draw_scene
from pool3.images.decode import DecodeLimits, decode
from pool3.images.open import as_picture
from pool3.images.pool import DecodePool
from tests.pool3.images.tiff_files import (
    BLACK_IS_ZERO,
    CMYK,
    DEFLATE,
    LAB,
    LZW,
    PACKBITS,
    PALETTE,
    RAW,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    tiff,
)

SCENE = np.asarray(draw_scene(3, size=(45, 31)))
GREY = np.asarray(draw_scene(3, size=(45, 31)).convert("L"))
ALPHA = np.tile(np.linspace(0, 255, 45).astype(np.uint8), (31, 1))
TILE = (32, 16)
SHARED = Path(__file__).resolve().parents[4] / "shared" / "cases"


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data).image).astype(int)


def refusal(data: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        decode(data)
    assert caught.value.code == "unsupported_format", caught.value
    return caught.value.detail


def as_dtype(levels: np.ndarray, dtype: str) -> np.ndarray:
    """Levels 0..255 at the whole range of a type of samples."""
    if dtype.startswith("f"):
        return (levels / 255).astype(dtype)
    top = 2 ** (8 * np.dtype(dtype).itemsize) - 1
    return (levels.astype(np.uint64) * (top // 255)).astype(dtype)


def over_white(levels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.asarray(levels * share + 255 * (1 - share))


def grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[..., None], 3, axis=2)


def assert_shows(data: bytes, expected: np.ndarray) -> None:
    actual = pixels(data)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 2


def full_range(levels: np.ndarray) -> np.ndarray:
    """The picture with a black and a white pixel, so that stretching changes nothing."""
    changed = levels.copy()
    changed[0, 0], changed[-1, -1] = 0, 255
    return changed


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [RAW, LZW, DEFLATE, PACKBITS])
@pytest.mark.parametrize("tile", [None, TILE])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f2", "f4", "f8"])
def test_every_type_of_samples_has_its_colours(
    dtype: str, tile: tuple[int, int] | None, compression: int, order: str
) -> None:
    options: dict[str, Any] = {"order": order, "compression": compression, "tile": tile}
    levels = full_range(GREY)
    assert_shows(tiff(as_dtype(levels, dtype), BLACK_IS_ZERO, **options), grey(levels))
    assert_shows(tiff(as_dtype(levels, dtype), WHITE_IS_ZERO, **options), grey(255 - levels))
    if dtype == "u4":
        return
    samples = as_dtype(SCENE, dtype)
    assert_shows(tiff(samples, RGB, **options), SCENE)
    assert_shows(tiff(samples, RGB, planar=True, **options), SCENE)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8"])
@pytest.mark.parametrize("tile", [None, TILE])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_predictors_are_undone(
    dtype: str, tile: tuple[int, int] | None, planar: bool, order: str
) -> None:
    for predictor in (2, 3) if dtype.startswith("f") else (2,):
        options: dict[str, Any] = {"order": order, "tile": tile, "planar": planar}
        data = tiff(
            as_dtype(SCENE, dtype), RGB, compression=DEFLATE, predictor=predictor, **options
        )
        assert_shows(data, SCENE)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_grey_reaches_from_its_smallest_to_its_largest_value(dtype: str, order: str) -> None:
    signed = (GREY.astype(int) - 128).clip(-100, 100)
    levels = (signed - signed.min()) * 255 / (signed.max() - signed.min())
    assert_shows(tiff(signed.astype(dtype), BLACK_IS_ZERO, order=order), grey(levels))
    assert_shows(tiff(signed.astype(dtype), WHITE_IS_ZERO, order=order), grey(255 - levels))


def test_32_bit_counts_that_reach_no_256th_of_their_range_are_stretched() -> None:
    levels = full_range(GREY)
    assert_shows(tiff(levels.astype("u4") * 7, BLACK_IS_ZERO), grey(levels))
    bright = (levels.astype("u8") * (2**32 - 1) // 510).astype("u4")
    assert_shows(tiff(bright, BLACK_IS_ZERO), grey(levels / 2))


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("tile", [None, TILE])
def test_samples_that_are_no_whole_bytes_are_unpacked(
    bits: int, tile: tuple[int, int] | None
) -> None:
    top = 2**bits - 1
    options: dict[str, Any] = {"bits": bits, "tile": tile}
    small, colours = ((levels.astype("u4") * top // 255) for levels in (GREY, SCENE))
    assert_shows(tiff(small, BLACK_IS_ZERO, **options), grey(small * 255 / top))
    assert_shows(tiff(small, WHITE_IS_ZERO, **options), grey(255 - small * 255 / top))
    assert_shows(tiff(colours, RGB, **options), colours * 255 / top)
    assert_shows(tiff(colours, RGB, planar=True, **options), colours * 255 / top)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_gives_the_colours(bits: int) -> None:
    rng = np.random.default_rng(1)
    count = 2**bits
    colours = rng.integers(0, 256, (count, 3))
    numbers = rng.integers(0, count, (31, 45)).astype(np.uint8)
    for tile, unit in itertools.product([None, TILE], [257, 1]):
        more = {320: (colours * unit).T.ravel().tolist()}
        data = tiff(numbers, PALETTE, bits=bits, tile=tile, more=more)
        if unit == 257 or bits < 8:
            assert_shows(data, colours[numbers])


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("planar", [False, True])
def test_transparency_is_white_whether_premultiplied_or_not(dtype: str, planar: bool) -> None:
    options: dict[str, Any] = {"planar": planar}
    plain = np.dstack([SCENE, ALPHA])
    multiplied = np.dstack([np.rint(SCENE * (ALPHA[..., None] / 255)).astype(np.uint8), ALPHA])
    expected = over_white(SCENE, ALPHA)
    assert_shows(tiff(as_dtype(plain, dtype), RGB, extra=[2], **options), expected)
    assert_shows(tiff(as_dtype(multiplied, dtype), RGB, extra=[1], **options), expected)
    assert_shows(tiff(as_dtype(plain, dtype), RGB, extra=[0], **options), SCENE)
    both = np.dstack([SCENE, GREY, ALPHA])
    assert_shows(tiff(as_dtype(both, dtype), RGB, extra=[0, 2], **options), expected)
    levels = full_range(GREY)
    with_grey = np.dstack([levels, ALPHA])
    expected = grey(over_white(levels[..., None], ALPHA)[..., 0])
    assert_shows(tiff(as_dtype(with_grey, dtype), BLACK_IS_ZERO, extra=[2], **options), expected)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("planar", [False, True])
def test_inks_are_converted(dtype: str, planar: bool) -> None:
    inks = np.dstack([255 - SCENE, np.zeros_like(GREY)])
    assert_shows(tiff(as_dtype(inks, dtype), CMYK, planar=planar), SCENE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_becomes_upright(orientation: int) -> None:
    turn = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}.get(orientation)  # fmt: skip
    picture = Image.fromarray(SCENE)
    stored = np.asarray(picture if turn is None else picture.transpose(turn))
    data = tiff(as_dtype(stored, "u2"), RGB, planar=True, more={274: [orientation]})
    decoded = decode(data)
    assert (decoded.width, decoded.height) == picture.size
    assert_shows(data, SCENE)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tag", [(254, 1), (255, 2), (254, 4)])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_preview_or_mask_is_not_the_picture(dtype: str, tag: tuple[int, int], big: bool) -> None:
    preview = tiff(GREY[::4, ::4].copy(), BLACK_IS_ZERO, more={tag[0]: [tag[1]]}, big=big)
    main = tiff(as_dtype(SCENE, dtype), RGB, planar=dtype == "u2", big=big)
    assert_shows(chained(preview, main, big=big), SCENE)
    assert_shows(chained(main, preview, big=big), SCENE)
    assert_shows(with_sub_directory(GREY[::4, ::4].copy(), tag, main, big=big), SCENE)
    assert "preview" in refusal(preview)


def chained(first: bytes, second: bytes, *, big: bool) -> bytes:
    """Two TIFFs in one: the directory of the second follows that of the first."""
    code, width, size, count = ("<Q", 8, 20, "<Q") if big else ("<I", 4, 12, "<H")
    (start,) = struct.unpack_from(code, first, width)
    (entries,) = struct.unpack_from(count, first, start)
    at = start + struct.calcsize(count) + size * entries
    moved, directory = relocated(second, len(first), big=big)
    return first[:at] + struct.pack(code, directory) + first[at + width :] + moved


def relocated(data: bytes, by: int, *, big: bool) -> tuple[bytes, int]:
    """A TIFF as it must be to begin at `by`, and where its directory is then."""
    code, width, size, count = ("<Q", 8, 20, "<Q") if big else ("<I", 4, 12, "<H")
    (start,) = struct.unpack_from(code, data, width)
    (entries,) = struct.unpack_from(count, data, start)
    moved = bytearray(data)
    for n in range(entries):
        at = start + struct.calcsize(count) + size * n
        tag, _, length = struct.unpack_from("<HH" + code[1], data, at)
        place = at + size - width
        (value,) = struct.unpack_from(code, data, place)
        if length > 1 and length * width > width:
            struct.pack_into(code, moved, place, value + by)
            if tag in {273, 324}:
                for k in range(value, value + length * width, width):
                    (old,) = struct.unpack_from(code, data, k)
                    struct.pack_into(code, moved, k, old + by)
        elif tag in {273, 324}:
            struct.pack_into(code, moved, place, value + by)
    return bytes(moved), start + by


def with_sub_directory(
    preview: np.ndarray, tag: tuple[int, int], main: bytes, *, big: bool
) -> bytes:
    """A preview whose tag SubIFDs leads to the picture, as raw files have it."""
    more = {tag[0]: [tag[1]], 330: [0]}
    before = len(tiff(preview, BLACK_IS_ZERO, more=more, big=big))
    moved, directory = relocated(main, before, big=big)
    more = {tag[0]: [tag[1]], 330: [directory]}
    return tiff(preview, BLACK_IS_ZERO, more=more, big=big) + moved


def test_a_raw_file_is_refused_not_shown_by_its_preview() -> None:
    main = tiff(as_dtype(GREY, "u2"), 32803)
    data = with_sub_directory(SCENE[::4, ::4, 0].copy(), (254, 1), main, big=False)
    assert "raw samples" in refusal(data)
    assert "CR2" in refusal(b"II*\0\x10\0\0\0CR\x02\0" + bytes(100))


def test_what_is_not_understood_is_refused_by_name() -> None:
    assert "complex" in refusal(tiff(GREY.astype("f4"), BLACK_IS_ZERO, more={339: [6]}))
    assert "raw samples" in refusal(tiff(GREY, 32803))
    assert "ICC L*a*b*" in refusal(tiff(SCENE, 9))
    assert "16-bit" in refusal(tiff(as_dtype(SCENE, "u2"), LAB))
    assert "YCbCr" in refusal(tiff(SCENE, YCBCR, more={530: [2, 2]}))
    assert "WebP" in refusal(tiff(SCENE, RGB, more={259: [50001]}))
    assert "JPEG 2000" in refusal(tiff(SCENE, RGB, more={259: [34712]}))
    assert "ExtraSamples" in refusal(tiff(np.dstack([SCENE, SCENE]), RGB))
    assert "signed" in refusal(tiff(SCENE.view("i1"), RGB))
    assert "32-bit unsigned" in refusal(tiff(as_dtype(SCENE, "u4"), RGB))
    assert "different kinds" in refusal(tiff(SCENE, RGB, more={258: [5, 6, 5]}))
    assert "0 to 1" in refusal(tiff(as_dtype(SCENE, "f4") * 3, RGB))
    assert "64-bit" in refusal(tiff(GREY.astype("u8"), BLACK_IS_ZERO))
    assert "CMYK" in refusal(tiff(np.dstack([SCENE, GREY]), CMYK, more={332: [2]}))


def test_counts_of_tags_are_not_believed() -> None:
    data = bytearray(tiff(SCENE, RGB, planar=True, more={258: [8, 8, 8], 338: [0] * 3}))
    data += bytes(1_000_000)
    for tag in (258, 273, 277, 279, 339):
        (at,) = [n for n in range(len(data) - 12) if data[n : n + 4] == struct.pack("<HH", tag, 4)]
        for count in (0, 1, 200_000, 2**32 - 1):
            changed = bytes(data[: at + 4]) + struct.pack("<I", count) + bytes(data[at + 8 :])
            with contextlib.suppress(PictureError):
                assert decode(changed).image.mode == "RGB"
    assert "samples a pixel" in refusal(tiff(SCENE, RGB, more={277: [10**9]}))


@settings(max_examples=300, deadline=None)
@given(
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    kind=st.sampled_from(["u2", "f4", "u1"]),
    compression=st.sampled_from([RAW, LZW, DEFLATE, PACKBITS]),
    tile=st.sampled_from([None, TILE]),
)
def test_damaged_bytes_decode_or_are_a_picture_error(
    places: list[tuple[float, int]], kind: str, compression: int, tile: tuple[int, int] | None
) -> None:
    data = tiff(as_dtype(SCENE, kind), RGB, planar=True, compression=compression, tile=tile)
    damaged = bytearray(data)
    tags_from = len(data) - 600
    for share, value in places:
        damaged[tags_from + int(share * 600)] = value
    try:
        image = decode(bytes(damaged), limits=DecodeLimits(max_pixels=10_000_000)).image
    except PictureError:
        return
    assert image.mode == "RGB"


def test_without_an_interpretation_grey_is_black_at_zero_and_three_samples_are_rgb() -> None:
    assert_shows(tiff(GREY, None), grey(GREY))
    assert_shows(tiff(SCENE, None), SCENE)


def test_planes_beyond_the_colours_are_not_needed() -> None:
    data = tiff(np.dstack([SCENE, SCENE[..., 0]]), RGB, extra=[0], planar=True, rows=31)
    (at,) = [n for n in range(len(data) - 12) if data[n : n + 4] == struct.pack("<HH", 273, 4)]
    (place,) = struct.unpack_from("<I", data, at + 8)
    broken = data[: place + 12] + struct.pack("<I", 0) + data[place + 16 :]
    assert_shows(broken, SCENE)


@pytest.mark.parametrize(
    ("compression", "planar"),
    [(RAW, True), *itertools.product([DEFLATE, LZW], [False, True])],
)
def test_half_of_its_pixels_are_no_picture(compression: int, planar: bool) -> None:
    samples = as_dtype(SCENE, "u2")
    data = tiff(samples, RGB, compression=compression, planar=planar, rows=31)
    (start,) = struct.unpack_from("<I", data, 4)
    third = start // 3
    damaged = data[: 8 + third] + b"\xff" * (start - 8 - third) + data[start:]
    lengths = {279: [10] * (3 if planar else 1)}
    short = tiff(samples, RGB, compression=compression, planar=planar, rows=31, more=lengths)
    for broken in [short] if compression == RAW else [short, damaged]:
        with pytest.raises(PictureError):
            decode(broken)


def test_a_tile_larger_than_its_picture_counts_with_its_pixels() -> None:
    data = tiff(as_dtype(SCENE, "u2"), RGB, tile=(4096, 4096), compression=DEFLATE, planar=True)
    with pytest.raises(PictureError, match="stored as") as caught:
        decode(data, limits=DecodeLimits(max_pixels=1_000_000))
    assert caught.value.code == "too_many_pixels"


@pytest.mark.parametrize(
    ("dtype", "samples", "planar"), [("u2", 3, True), ("f4", 1, False), ("f8", 4, False)]
)
def test_large_samples_stay_within_the_memory_that_is_requested(
    dtype: str, samples: int, planar: bool
) -> None:
    side = 2000
    shape = (side, side, samples)
    data = tiff(np.zeros(shape, dtype), RGB if samples > 1 else BLACK_IS_ZERO, planar=planar,
                compression=DEFLATE, rows=side, extra=[2] if samples == 4 else [])  # fmt: skip
    requested: list[int] = []
    decode(data, admit=requested.append)
    (pixels_requested,) = requested
    limit = pixels_requested * 9 + 80_000_000  # what a process takes that decodes nothing
    with DecodePool(processes=1, size=8, resize="pil-bilinear", memory_limit_bytes=limit) as pool:
        [(_, outcome)] = list(pool.decode([("x", data)]))
    assert not isinstance(outcome, PictureError), outcome


def test_samples_may_have_more_bytes_than_pillow_allows_pixels() -> None:
    shape = (2400, 2400, 4)
    data = tiff(np.ones(shape, "f8"), RGB, compression=DEFLATE, rows=2400, extra=[2])
    assert (pixels(data) == 255).all()


def test_a_query_has_the_same_pixels() -> None:
    data = tiff(as_dtype(SCENE, "u2"), RGB, planar=True, order=">")
    assert np.array_equal(np.asarray(as_picture(data)), pixels(data))


def test_a_colour_profile_stays_with_the_samples() -> None:
    profile = b"profile bytes" + bytes(115)
    data = tiff(as_dtype(SCENE, "u2"), RGB, planar=True)
    from pool3.images.tiff import layout_of

    assert "icc_profile" not in layout_of(data).decoded().info
    file = io.BytesIO()
    Image.fromarray(SCENE).save(file, "TIFF", icc_profile=profile)
    assert layout_of(file.getvalue()).decoded().info["icc_profile"] == profile


def shared_names() -> list[str]:
    names = SHARED / "tiff" / "list.json"
    return json.loads(names.read_text()) if names.is_file() else []


@pytest.mark.parametrize("name", shared_names())
def test_a_shared_case_has_its_pixels(name: str) -> None:
    expected = np.load(SHARED / "tiff" / f"{name}.npy")
    assert_shows((SHARED / "tiff" / name).read_bytes(), expected)
