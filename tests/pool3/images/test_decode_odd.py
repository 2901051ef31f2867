"""Decoding of unusual real files: the manifest beside them has what Pillow decoded."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pool3.errors import PictureError
from pool3.images.decode import decode

MANIFEST = Path(__file__).resolve().parents[4] / "shared" / "data" / "MANIFEST.csv"
# Pillow fails at their text or colour profile; their pixels are whole.
DAMAGED_ELSEWHERE = {"png_decompression_dos.png", "unknown_compression_method.png"}
FREE = {"", "open:DecompressionBombWarning"}
FITTING = {
    "ok": {"ok"},
    "open:DecompressionBombError": {"too_many_pixels"},
    "open:UnidentifiedImageError": {"corrupt", "truncated", "unsupported_format", "not_an_image"},
    "open:OSError": {"unsupported_format", "corrupt", "truncated"},
    "open:TypeError": {"corrupt"},
    "open:ValueError": {"corrupt"},
    "load:OSError": {"corrupt", "truncated", "unsupported_format"},
    "load:ValueError": {"corrupt"},
}


def odd_files() -> list[tuple[str, str]]:
    if not MANIFEST.is_file():
        return []
    with MANIFEST.open(newline="") as rows:
        odd = [row for row in csv.DictReader(rows) if row["file"].startswith("odd/")]
    return [(row["file"], row["expect"]) for row in odd]


def outcome(data: bytes) -> str:
    try:
        image = decode(data).image
    except PictureError as error:
        return error.code
    return "ok" if image.mode == "RGB" and min(image.size) > 0 else f"{image.mode} {image.size}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(20)
@pytest.mark.parametrize(("file", "expected"), odd_files())
def test_an_odd_file_decodes_exactly_when_the_manifest_says_so(
    file: str, expected: str, shared_data: Path
) -> None:
    found = outcome((shared_data / file).read_bytes())
    if Path(file).name in DAMAGED_ELSEWHERE:
        expected = "ok"
    if expected not in FREE:
        assert found in FITTING[expected]
