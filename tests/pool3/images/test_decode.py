from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pool3.errors import PictureError, UsageError
from pool3.gallery import draw_scene
from pool3.images.colour import BAND_PIXELS, to_rgb
from pool3.images.decode import DecodeLimits, decode, decode_resized, resized

SCENE = draw_scene(3, size=(60, 40))
LOSSLESS = ("PNG", "GIF", "TIFF", "BMP", "PPM", "WEBP", "JPEG2000")
EVERY_FORMAT = (*LOSSLESS, "JPEG", "AVIF")
UPRIGHT_TO_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    if kind == "WEBP":
        options.setdefault("lossless", True)
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data).image)


def code_of(data: bytes, limits: DecodeLimits | None = None) -> str:
    with pytest.raises(PictureError) as caught:
        decode(data, limits=limits)
    assert caught.value.detail
    return caught.value.code


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_come_back_as_they_were_drawn(kind: str) -> None:
    picture = SCENE.quantize(64).convert("RGB") if kind == "GIF" else SCENE
    decoded = decode(saved(picture, kind))
    assert decoded.format == kind
    assert decoded.image.mode == "RGB"
    assert np.array_equal(np.asarray(decoded.image), np.asarray(picture))


@pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
def test_lossy_formats_come_back_nearly_so(kind: str) -> None:
    actual = pixels(saved(SCENE, kind, quality=95)).astype(float)
    assert np.abs(actual - np.asarray(SCENE)).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "AVIF", "JPEG"])
@pytest.mark.parametrize("orientation", UPRIGHT_TO_STORED)
def test_every_orientation_gives_the_upright_picture(kind: str, orientation: int) -> None:
    turn = UPRIGHT_TO_STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = SCENE if turn is None else SCENE.transpose(turn)
    picture = decode_resized(
        saved(stored, kind, exif=exif.tobytes()), size=60, resize="pil-bilinear"
    )
    assert (picture.width, picture.height) == SCENE.size
    difference = np.abs(picture.rgb.astype(float) - resized(SCENE, 60, "pil-bilinear"))
    assert difference.mean() < (8 if kind in {"AVIF", "JPEG"} else 0.01)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "AVIF", "JPEG"])
def test_an_upright_picture_is_not_turned_once_more(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode(saved(SCENE, kind, exif=exif.tobytes())).image
    assert upright.size == SCENE.size[::-1]
    assert ImageOps.exif_transpose(upright).size == SCENE.size[::-1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\xff", b"\xff" * 30])
def test_a_broken_exif_block_only_loses_the_orientation(block: bytes) -> None:
    assert decode(saved(SCENE, "JPEG", exif=block)).image.size == SCENE.size


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_pixels_are_white(mode: str) -> None:
    picture = (SCENE.convert("P") if mode == "PA" else SCENE).convert(mode)
    alpha = Image.new("L", SCENE.size, 0)
    alpha.paste(255, (0, 0, 30, 40))
    picture.putalpha(alpha)
    actual = pixels(saved(picture, "TIFF" if mode == "PA" else "PNG"))
    opaque = np.asarray(SCENE.convert("P").convert("RGB") if mode == "PA" else SCENE)
    opaque = np.asarray(SCENE.convert("L").convert("RGB")) if mode == "LA" else opaque
    assert (actual[:, 30:] == 255).all()
    assert np.array_equal(actual[:, :30], opaque[:, :30])


def test_half_transparent_is_halfway_to_white() -> None:
    actual = pixels(saved(Image.new("RGBA", (4, 4), (0, 100, 200, 128))))
    assert np.abs(actual[0, 0].astype(int) - [127, 177, 227]).max() <= 1


@pytest.mark.parametrize(
    ("mode", "colour", "key"),
    [("L", 7, 7), ("RGB", (1, 2, 3), (1, 2, 3)), ("1", 0, 0), ("P", 5, 5), ("I;16", 300, 300)],
)
def test_a_png_transparency_key_is_white(mode: str, colour: Any, key: Any) -> None:
    picture = Image.new(mode, (6, 5), colour)
    if mode == "P":
        picture.putpalette([level // 3 for level in range(768)])
    data = saved(picture, "PNG", transparency=key)
    assert (pixels(data) == 255).all()
    assert not (pixels(saved(picture, "PNG")) == 255).all()


def test_a_transparent_gif_is_white_where_nothing_is() -> None:
    picture = Image.new("P", (6, 5), 3)
    assert (pixels(saved(picture, "GIF", transparency=3)) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    actual = pixels(saved(Image.fromarray(ramp), kind))
    assert np.array_equal(actual[..., 0].ravel(), np.arange(256))
    assert (actual == actual[..., :1]).all()


def test_big_endian_sixteen_bits_mean_the_same() -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(">u2").reshape(16, 16)
    picture = Image.frombytes("I;16B", (16, 16), ramp.tobytes())
    assert np.array_equal(pixels(saved(picture, "TIFF"))[..., 0].ravel(), np.arange(256))


def test_samples_without_a_range_are_stretched_alike_in_every_band() -> None:
    samples = np.random.default_rng(2).normal(5, 100, (1500, 1400)).astype(np.float32)
    assert samples.size > BAND_PIXELS
    low, high = float(samples.min()), float(samples.max())
    expected = np.rint((samples.astype(np.float64) - low) * (255 / (high - low)))
    actual = np.asarray(to_rgb(Image.fromarray(samples)))
    np.testing.assert_array_equal(actual, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_unbounded_samples_are_stretched(dtype: type) -> None:
    values = np.array([[-1000, 0, 1000]], dtype)
    assert pixels(saved(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    flat = Image.fromarray(np.full((2, 2), 7, dtype))
    assert (pixels(saved(flat, "TIFF")) == 0).all()


def test_samples_that_are_not_finite_do_no_harm() -> None:
    values = np.array([[0, 1, np.nan, np.inf, -np.inf]], np.float32)
    assert pixels(saved(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 255, 0, 255, 0]
    nothing = Image.fromarray(np.full((2, 2), np.nan, np.float32))
    assert (pixels(saved(nothing, "TIFF")) == 0).all()


def test_a_sixteen_bit_ppm_keeps_its_range() -> None:
    data = b"P5 2 1 65535\n" + struct.pack(">HH", 0, 32768)
    assert pixels(data)[0, :, 0].tolist() == [0, 128]


def test_lab_is_converted_through_its_profile() -> None:
    lab = Image.merge("LAB", [Image.new("L", (4, 4), level) for level in (136, 208, 195)])
    red = pixels(saved(lab, "TIFF"))[0, 0].astype(int)
    assert np.abs(red - [255, 0, 0]).max() < 12


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P", "YCbCr"])
def test_other_modes_look_as_pillow_converts_them(mode: str) -> None:
    picture = SCENE.convert(mode)
    kind = "JPEG" if mode in {"CMYK", "YCbCr"} else "PNG"
    data = saved(picture, kind)
    with Image.open(io.BytesIO(data)) as again:
        assert np.array_equal(pixels(data), np.asarray(again.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    data = saved(red, kind, save_all=True, append_images=[blue, blue])
    assert (pixels(data) == [255, 0, 0]).all()


def test_resizing_is_pillows_bilinear_of_the_rgb_picture() -> None:
    picture = decode_resized(saved(SCENE.convert("L")), size=29, resize="pil-bilinear")
    expected = SCENE.convert("L").convert("RGB").resize((29, 29), Image.Resampling.BILINEAR)
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.shape == (29, 29, 3)
    assert np.array_equal(picture.rgb, np.asarray(expected))
    with pytest.raises(UsageError, match="nearest"):
        resized(SCENE, 29, "nearest")


@pytest.mark.parametrize(
    ("data", "code", "name"),
    [
        (b"", "empty", "no bytes"),
        (b"dear diary", "not_an_image", "dear"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_format", "EPS"),
        (b"%PDF-1.7\n", "unsupported_format", "PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="">', "unsupported_format", "SVG"),
        (b"8BPS\0\1" + bytes(40), "unsupported_format", "PSD"),
        (b"<html><body>404</body></html>", "not_an_image", "<html>"),
        (b"\x89PNG\r\n\x1a\n", "truncated", "PNG"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, code: str, name: str) -> None:
    assert code_of(data) == code
    with pytest.raises(PictureError, match=name):
        decode(data)


def test_a_program_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("decoding started a program")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert code_of(saved(SCENE, "EPS")) == "unsupported_format"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF"])
def test_half_a_file_is_truncated(kind: str) -> None:
    data = saved(SCENE, kind)
    assert code_of(data[: len(data) // 2]) == "truncated"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", EVERY_FORMAT)
def test_any_beginning_of_a_file_is_an_error_and_never_a_crash(kind: str) -> None:
    data = saved(SCENE, kind)
    for length in {*range(1, 80), *range(80, len(data) * 9 // 10, 397)}:
        assert code_of(data[:length]) in {"truncated", "corrupt", "not_an_image"}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150)
@given(data=st.data(), kind=st.sampled_from(EVERY_FORMAT))
def test_damaged_bytes_decode_or_are_a_picture_error(data: st.DataObject, kind: str) -> None:
    damaged = bytearray(saved(SCENE, kind))
    places = st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, min_size=1, max_size=8)):
        damaged[place] = value
    try:
        image = decode(bytes(damaged)).image
    except PictureError:
        return
    assert image.mode == "RGB"


def test_the_limits_are_inclusive() -> None:
    data = saved(Image.new("RGB", (10, 20)))
    exact = DecodeLimits(max_pixels=200, max_bytes=len(data))
    assert decode(data, limits=exact).image.size == (10, 20)
    assert code_of(data, DecodeLimits(max_pixels=199)) == "too_many_pixels"
    assert code_of(data, DecodeLimits(max_bytes=len(data) - 1)) == "too_large"
    with pytest.raises(UsageError, match="max_pixels"):
        DecodeLimits(max_pixels=0)


def png_bomb(side: int) -> bytes:
    """A grey PNG of side times side zeros, made without holding them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(bytes(side + 1)) for _ in range(side)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def webp_bomb(side: int) -> bytes:
    """A WebP animation whose canvas claims side times side pixels."""
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    data = bytearray(saved(red, "WEBP", save_all=True, append_images=[SCENE.resize((8, 8))]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (side - 1).to_bytes(3, "little") * 2
    return bytes(data)


def gif_bomb(side: int) -> bytes:
    data = bytearray(saved(Image.new("P", (8, 8)), "GIF"))
    data[6:10] = struct.pack("<HH", side, side)
    return bytes(data)


@pytest.mark.parametrize("bomb", [png_bomb(11_000), webp_bomb(13_000), gif_bomb(11_000)])
def test_a_bomb_costs_no_memory(bomb: bytes) -> None:
    script = """if True:
        import sys
        from pool3.images.decode import decode
        from pool3.errors import PictureError


        def peak():  # not ru_maxrss, which begins at the parent's
            with open("/proc/self/status") as status:
                return int(status.read().split("VmHWM:")[1].split()[0])


        data = sys.stdin.buffer.read()
        before = peak()
        try:
            decode(data)
        except PictureError as error:
            print(error.code)
        print(peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], input=bomb, capture_output=True, check=True
    )
    code, kibibytes = done.stdout.decode().split()
    assert code == "too_many_pixels"
    assert int(kibibytes) < 20_000


def test_threads_decode_alike() -> None:
    files = [saved(SCENE, kind) for kind in EVERY_FORMAT]
    expected = [pixels(data) for data in files]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(10):
            for number, data in enumerate(files):
                if not np.array_equal(pixels(data), expected[number]):
                    wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
