"""Colour profiles: what is converted, what costs nothing, what is ignored with a note."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

import pool3.images.profiles
from pool3.errors import UsageError
from pool3.gallery.scenes import draw_scene
from pool3.images.decode import decode, decode_resized
from pool3.images.open import as_picture
from pool3.images.pool import DecodePool
from pool3.images.profiles import IGNORED, MAX_PROFILE_BYTES, SRGB

SCENE = draw_scene(3, size=(96, 64))
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
D50 = np.array([0.9642, 1.0, 0.8249])
P3 = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
SRGB_COLORANTS = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + struct.pack(
    ">5i", *(round(x * 65536) for x in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)


def fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def profile(
    space: bytes, tags: dict[bytes, bytes], *, kind: bytes = b"mntr", pcs: bytes = b"XYZ "
) -> bytes:
    """Return an ICC profile of version 4."""
    text = "test".encode("utf-16-be")
    described = b"mluc\0\0\0\0" + struct.pack(">2I4s2I", 1, 12, b"enUS", len(text), 28) + text
    tags = {b"desc": described, b"cprt": described, b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)} | tags
    table, data = b"", b""
    for name, content in tags.items():
        table += struct.pack(">4s2I", name, 132 + 12 * len(tags) + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    length = 132 + len(table) + len(data)
    header = struct.pack(">I4x4s4s4s4s", length, b"\4\x20\0\0", kind, space, pcs)
    header += b"\x07\xe8" + b"\0\1" * 5 + b"acsp" + b"\0" * 28 + fixed(*D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def matrix_profile(colorants: npt.NDArray[np.float64], curve: bytes = SRGB_CURVE) -> bytes:
    tags = {}
    for channel, column in zip("rgb", colorants.T, strict=True):
        tags[f"{channel}XYZ".encode()] = b"XYZ \0\0\0\0" + fixed(*column)
        tags[f"{channel}TRC".encode()] = curve
    return profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": b"para\0\0\0\0\0\0\0\0" + fixed(gamma)})


def cmyk_profile(ink: float = 0.9) -> bytes:
    """A press whose inks each take away `ink` of a third of the light: a grid of two per ink."""
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).T
    lightness = 1 - ink * np.minimum(corners[:, :3].sum(axis=1) / 3 + corners[:, 3], 1)
    a = 0.4 * (corners[:, 1] - corners[:, 0]) * (1 - corners[:, 3])
    b = 0.4 * (corners[:, 2] - corners[:, 0]) * (1 - corners[:, 3])
    lab = np.stack([lightness * 65280, 32768 + a * 32768, 32768 + b * 32768], axis=1)
    lut = b"mft2\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut += struct.pack(">2H", 2, 2) + struct.pack(">8H", *(0, 65535) * 4)
    lut += lab.round().astype(">u2").tobytes() + struct.pack(">6H", *(0, 65535) * 3)
    return profile(b"CMYK", {b"A2B0": lut, b"A2B1": lut}, kind=b"prtr", pcs=b"Lab ")


def saved(image: Image.Image, kind: str = "PNG", icc: bytes | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, icc_profile=icc, **options)
    return file.getvalue()


def pixels(image: Image.Image) -> npt.NDArray[np.float64]:
    return np.asarray(image, np.float64)


def linear(encoded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def encoded(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def p3_of(image: Image.Image) -> Image.Image:
    """The same colours in Display P3, by the formulas of both standards."""
    matrix = np.linalg.inv(P3) @ SRGB_COLORANTS
    return Image.fromarray(
        np.rint(255 * encoded(linear(pixels(image) / 255) @ matrix.T)).astype(np.uint8)
    )


FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("TIFF", {}),
    ("WEBP", {"lossless": True}),
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ("JPEG", {"quality": 100, "subsampling": 0}),
]


@pytest.mark.parametrize(("kind", "options"), FORMATS)
def test_display_p3_becomes_srgb(kind: str, options: dict[str, Any]) -> None:
    data = saved(p3_of(SCENE), kind, matrix_profile(P3), **options)
    decoded = decode(data)
    difference = np.abs(pixels(decoded.image) - pixels(SCENE)).mean()
    ignored = np.abs(pixels(decode(data, colour=IGNORED).image) - pixels(SCENE)).mean()
    assert decoded.notes == ()
    assert difference < 0.9
    assert ignored > 2


def test_cmyk_becomes_srgb_by_its_profile() -> None:
    ink = Image.merge("CMYK", [*SCENE.split(), Image.new("L", SCENE.size, 30)])
    icc = cmyk_profile()
    expected = ImageCms.profileToProfile(
        ink,
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert expected is not None
    for kind, options in (("TIFF", {}), ("JPEG", {"quality": 100, "subsampling": 0})):
        decoded = decode(saved(ink, kind, icc, **options))
        assert np.abs(pixels(decoded.image) - pixels(expected)).mean() < 1.5
        assert np.abs(pixels(decoded.image) - pixels(ink.convert("RGB"))).mean() > 10
        assert decoded.notes == ()


def test_cmyk_without_a_profile_is_as_ever() -> None:
    ink = SCENE.convert("CMYK")
    np.testing.assert_array_equal(pixels(decode(saved(ink, "TIFF")).image), pixels(SCENE))


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "1"])
def test_grey_becomes_srgb_by_its_profile(mode: str) -> None:
    levels = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    grey = Image.fromarray(levels)
    if mode == "I;16":
        grey = Image.fromarray(levels.astype(np.uint16) * 257)
    elif mode != "L":
        grey = grey.convert(mode)
    expected = np.repeat(255 * encoded((levels / 255) ** 1.0)[..., None], 3, axis=2)
    if mode == "1":
        expected = np.repeat(pixels(grey)[..., None] * 255, 3, axis=2)
    decoded = decode(saved(grey, "PNG", grey_profile(1.0)))
    assert np.abs(pixels(decoded.image) - expected).max() <= 1
    assert decoded.notes == ()


def test_transparent_pixels_are_converted_before_they_are_composited() -> None:
    rgba = p3_of(SCENE)
    rgba.putalpha(Image.linear_gradient("L").resize(SCENE.size))
    opacity = pixels(rgba.getchannel("A"))[..., None] / 255
    expected = pixels(SCENE) * opacity + 255 * (1 - opacity)
    decoded = decode(saved(rgba, "PNG", matrix_profile(P3)))
    assert np.abs(pixels(decoded.image) - expected).max() <= 2


def test_palettes_are_converted() -> None:
    palette = p3_of(SCENE).quantize(64)
    whole = decode(saved(palette.convert("RGB"), "PNG", matrix_profile(P3)))
    actual = decode(saved(palette, "PNG", matrix_profile(P3)))
    np.testing.assert_array_equal(pixels(actual.image), pixels(whole.image))


@pytest.mark.parametrize("icc", [SRGB_PROFILE, matrix_profile(SRGB_COLORANTS)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_profile_that_is_srgb_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, icc: bytes, mode: str
) -> None:
    picture = SCENE.quantize(32) if mode == "P" else SCENE.convert(mode)
    data, plain = saved(picture, "PNG", icc), saved(picture, "PNG")
    decode(data)  # the profile is known from here on
    monkeypatch.setattr(ImageCms.ImageCmsTransform, "apply", None)
    decoded = decode(data)
    assert decoded.notes == ()
    np.testing.assert_array_equal(pixels(decoded.image), pixels(decode(plain).image))


def test_a_profile_is_read_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(SCENE, "PNG", matrix_profile(P3 * 0.999))
    first = decode(data)
    monkeypatch.setattr(pool3.images.profiles, "_make_conversion", None)
    np.testing.assert_array_equal(pixels(decode(data).image), pixels(first.image))


def test_many_profiles_take_no_more_memory_than_some() -> None:
    for gamma in np.linspace(1.5, 1.9, 40):
        decode(saved(SCENE.convert("L"), "PNG", grey_profile(gamma)))
    assert len(pool3.images.profiles._conversions) <= 16


P3_PROFILE = matrix_profile(P3)
NO_CURVE = b"curv\0\0\0\0" + struct.pack(">I512H", 512, *[0] * 512)
MANY_ELEMENTS = b"mpet\0\0\0\0" + struct.pack(">2HI", 3, 3, 100_000)
UNUSABLE = {
    "empty of tags": (P3_PROFILE[:128] + b"\0\0\0\0", "damaged"),
    "no profile": (b"nonsense" * 40, "damaged"),
    "short": (P3_PROFILE[:100], "damaged"),
    "cut in its table": (P3_PROFILE[:160], "damaged"),
    "cut in its tags": (P3_PROFILE[:240], "damaged"),
    "dark": (matrix_profile(P3, NO_CURVE), "white is dark"),
    "huge": (P3_PROFILE + b"\0" * MAX_PROFILE_BYTES, f"more than the limit of {MAX_PROFILE_BYTES}"),
    "cmyk": (cmyk_profile(), "expected one of RGB, as the pixels are, found one of CMYK"),
    "grey": (grey_profile(1.0), "expected one of RGB, as the pixels are, found one of GRAY"),
    "lab": (LAB_PROFILE, "class b'abst'|RGB, GRAY or CMYK, found one of b'Lab '"),
    "link": (profile(b"RGB ", {}, kind=b"link"), "found class b'link'"),
    "slow": (profile(b"RGB ", {b"D2B1": MANY_ELEMENTS}), "100000 processing elements"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_profile_that_cannot_be_used_never_costs_the_picture(case: str) -> None:
    icc, named = UNUSABLE[case]
    data = saved(SCENE, "TIFF", icc)
    decoded = decode(data)
    np.testing.assert_array_equal(pixels(decoded.image), pixels(SCENE))
    (note,) = decoded.notes
    assert note.startswith("its colour profile was ignored: ")
    assert any(part in note for part in named.split("|"))
    assert decode(data, colour=IGNORED).notes == ()


@pytest.mark.parametrize("icc", [P3_PROFILE, grey_profile(1.0), b"nonsense"])
def test_cmyk_with_a_profile_of_other_pixels_is_as_without(icc: bytes) -> None:
    decoded = decode(saved(SCENE.convert("CMYK"), "TIFF", icc))
    np.testing.assert_array_equal(pixels(decoded.image), pixels(SCENE))
    assert len(decoded.notes) == 1


def test_any_flipped_byte_costs_no_picture() -> None:
    generator = np.random.default_rng(1)
    for icc, picture in ((P3_PROFILE, SCENE), (cmyk_profile(), SCENE.convert("CMYK"))):
        for _ in range(60):
            damaged = bytearray(icc)
            damaged[generator.integers(len(icc))] = generator.integers(256)
            assert decode(saved(picture, "TIFF", bytes(damaged))).image.size == SCENE.size


def test_a_jpeg_whose_profile_has_missing_segments_is_decoded_with_a_note() -> None:
    data = saved(SCENE, "JPEG", SRGB_PROFILE, quality=100, subsampling=0)
    assert data.count(b"ICC_PROFILE\0\1\1") == 1
    decoded = decode(data.replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2"))
    assert np.abs(pixels(decoded.image) - pixels(SCENE)).mean() < 1
    assert decoded.notes


def test_a_picture_of_pillow_is_converted_and_stays_as_it_was() -> None:
    with Image.open(io.BytesIO(saved(p3_of(SCENE), "PNG", P3_PROFILE))) as picture:
        before = pixels(picture)
        assert np.abs(pixels(as_picture(picture)) - pixels(SCENE)).max() <= 2
        np.testing.assert_array_equal(pixels(as_picture(picture, colour=IGNORED)), before)
        np.testing.assert_array_equal(pixels(picture), before)


def test_processes_convert_as_a_query_does() -> None:
    data = saved(p3_of(SCENE), "PNG", P3_PROFILE)
    broken = saved(SCENE, "TIFF", cmyk_profile())
    for colour in (SRGB, IGNORED):
        options: dict[str, Any] = {"size": 32, "resize": "pil-bilinear", "colour": colour}
        with DecodePool(processes=1, thumbnail_side=60, **options) as pool:
            outcomes = [outcome for _, outcome in pool.decode([(0, data), (1, broken)])]
        for outcome, file in zip(outcomes, (data, broken), strict=True):
            expected = decode_resized(file, thumbnail_side=60, **options)
            np.testing.assert_array_equal(outcome.rgb, expected.rgb)
            assert (outcome.notes, outcome.thumbnail) == (expected.notes, expected.thumbnail)
        assert bool(outcomes[1].notes) == (colour == SRGB)


def test_an_unknown_treatment_is_refused() -> None:
    with pytest.raises(UsageError, match="ignored, srgb, found 'p3'"):
        DecodePool(processes=1, size=8, resize="pil-bilinear", colour="p3")


@pytest.mark.parametrize("scene", ["003", "005"])
@pytest.mark.parametrize(("variant", "most"), [("p3.png", 0.5), ("cmyk.jpg", 7.0)])
def test_the_cases_are_their_originals(scene: str, variant: str, most: float) -> None:
    folder = Path(__file__).parents[4] / "shared" / "cases" / "icc"
    if not folder.is_dir():
        pytest.skip("needs ../shared/cases")
    original = pixels(decode((folder / f"{scene}_srgb.png").read_bytes()).image)
    actual = pixels(decode((folder / f"{scene}_{variant}").read_bytes()).image)
    assert np.abs(actual - original).mean() < most
