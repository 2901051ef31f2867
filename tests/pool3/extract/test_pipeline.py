"""The pipeline of a task without Spark: one row per input, whatever goes wrong."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pool3.errors import PictureError
from pool3.extract.pipeline import InProcessDecoder, Tally, ahead, extract, in_batches
from pool3.extract.reuse import ContentReuse, ExistingContent
from pool3.extract.rows import PictureInput, Prepared, RowContext
from pool3.features.schema import FEATURE_SCHEMA
from pool3.images.decode import DecodeLimits, Picture

CONTEXT = RowContext(
    run_id="r", model_id="m", engine="e", precision="p", dimension=3, schema=FEATURE_SCHEMA
)
LIMITS = DecodeLimits()
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class MeanColour:
    """A model of three numbers, which records its calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.calls.append(len(pixels))
        return pixels.mean(axis=(1, 2)).astype(np.float32)


def run(
    inputs: list[PictureInput],
    batch_size: int = 4,
    limits: DecodeLimits = LIMITS,
    reuse: ContentReuse | None = None,
) -> tuple[Tally, list[dict[str, object]], MeanColour]:
    model = MeanColour()
    batches: list[pa.RecordBatch] = []
    tally = extract(
        inputs,
        model=model,
        append=batches.append,
        context=CONTEXT,
        decoder=InProcessDecoder(8, "pil-bilinear", limits),
        reuse=reuse or ContentReuse(None, None),
        batch_size=batch_size,
        max_bytes=limits.max_bytes,
    )
    return tally, [row for batch in batches for row in batch.to_pylist()], model


def source(path: Path, existing_ok: bool = False) -> PictureInput:
    return PictureInput(image_id=str(path), uri=str(path), modified_at=NOW, existing_ok=existing_ok)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(10):
        colour = (number * 20, 255 - number * 20, 7)
        Image.new("RGB", (20 + number, 10), colour).save(tmp_path / f"{number}.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"not a picture at all")
    (tmp_path / "cut.png").write_bytes((tmp_path / "1.png").read_bytes()[:50])
    return tmp_path


def test_each_input_is_one_row_in_order(folder: Path) -> None:
    names = ["0.png", "empty.jpg", "1.png", "missing.jpg", "text.jpg", "cut.png", "9.png"]
    tally, rows, model = run([source(folder / name) for name in names])
    assert [row["uri"] for row in rows] == [str(folder / name) for name in names]
    assert [row["error"] for row in rows] == [
        None, "empty", None, "not_found", "not_an_image", "truncated", None,
    ]  # fmt: skip
    assert (tally.ok, tally.failed, dict(tally.errors)) == (
        3, 4, {"empty": 1, "not_found": 1, "not_an_image": 1, "truncated": 1},
    )  # fmt: skip
    for row in rows:
        assert (row["status"] == "ok") == (row["error"] is None) == (row["features"] is not None)
        assert row["status"] == "ok" or row["error_detail"]
    assert model.calls == [3]


def test_rows_have_the_values_of_their_own_picture(folder: Path) -> None:
    _, rows, _ = run([source(folder / f"{number}.png") for number in range(10)], batch_size=3)
    for number, row in enumerate(rows):
        assert row["features"] == [number * 20, 255 - number * 20, 7]
        assert (row["width"], row["height"], row["format"]) == (20 + number, 10, "PNG")
        data = (folder / f"{number}.png").read_bytes()
        assert row["content_sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["content_length"], row["modified_at"]) == (len(data), NOW)


def test_the_model_is_called_once_for_each_picture(folder: Path) -> None:
    _, _, model = run([source(folder / f"{number}.png") for number in range(10)], batch_size=4)
    assert model.calls == [4, 4, 2]


def test_a_transient_failure_does_not_replace_an_ok_row(folder: Path) -> None:
    gone, broken = folder / "missing.jpg", folder / "text.jpg"
    tally, rows, _ = run([source(gone, existing_ok=True), source(broken, existing_ok=True)])
    assert [row["uri"] for row in rows] == [str(broken)]
    assert (tally.failed, tally.retained) == (2, [str(gone)])


def test_the_same_bytes_are_extracted_once_and_copied(folder: Path) -> None:
    for name in ("twin.png", "third.png"):
        (folder / name).write_bytes((folder / "3.png").read_bytes())
    (folder / "cut2.png").write_bytes((folder / "cut.png").read_bytes())
    names = ["3.png", "twin.png", "cut.png", "5.png", "third.png", "cut2.png"]
    tally, rows, model = run([source(folder / name) for name in names], batch_size=2)
    assert sum(model.calls) == 2
    assert (tally.ok, tally.failed, tally.copied) == (4, 2, 2)
    by_name = {Path(str(row["uri"])).name: row for row in rows}
    assert len(by_name) == len(rows) == 6
    for name in ("twin.png", "third.png"):
        for column in ("features", "width", "height", "format", "content_sha256", "status"):
            assert by_name[name][column] == by_name["3.png"][column]
    assert by_name["cut2.png"]["error"] == by_name["cut.png"]["error"] == "truncated"


def test_bytes_that_did_not_change_leave_their_row(folder: Path) -> None:
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("1.png", "2.png")
    }
    same, other = (
        replace(source(folder / name), existing_ok=True, existing_sha256=digests["1.png"])
        for name in ("1.png", "2.png")
    )
    tally, rows, model = run([same, other])
    assert tally.unchanged == [same.image_id]
    assert [row["uri"] for row in rows] == [other.uri]
    assert model.calls == [1]


def test_content_and_refusals_need_no_fetching(folder: Path) -> None:
    given = PictureInput(image_id="a", uri="t", content=(folder / "4.png").read_bytes())
    large = PictureInput(image_id="b", uri="t", content=b"x" * (LIMITS.max_bytes + 1))
    refused = PictureInput(image_id="c", uri=str(folder / "1.png"), refused="outside the prefixes")
    _, rows, model = run([given, large, refused])
    by_id = {row["image_id"]: row for row in rows}
    assert by_id["a"]["features"] == [80, 175, 7]
    assert by_id["b"]["error"] == "too_large"
    assert (by_id["c"]["error"], by_id["c"]["error_detail"]) == ("denied", "outside the prefixes")
    assert model.calls == [1]


@given(st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), unique=True, max_size=30))
def test_existing_content_finds_each_digest_and_no_other(digests: list[str]) -> None:
    existing = ExistingContent.of(digests, range(len(digests)), range(100, 100 + len(digests)))
    assert [existing.find(digest) for digest in digests] == [
        (n, 100 + n) for n in range(len(digests))
    ]
    assert existing.find("f" * 63 + "g") is None or "f" * 64 in digests


def test_inputs_over_a_limit_are_rows_with_errors(folder: Path) -> None:
    _, rows, _ = run([source(folder / "0.png")], limits=DecodeLimits(max_pixels=199))
    assert rows[0]["error"] == "too_many_pixels"
    _, rows, _ = run([source(folder / "0.png")], limits=DecodeLimits(max_bytes=10))
    assert rows[0]["error"] == "too_large"


def test_a_picture_that_fails_late_is_among_the_slowest(folder: Path) -> None:
    class Slow:
        seconds = 0.0

        def decode(self, items: Any) -> Iterator[tuple[Prepared, PictureError]]:
            for item, _ in items:
                yield item, PictureError("timeout", "not within 30 s", 30.0)

    tally = extract(
        [source(folder / "0.png")],
        model=MeanColour(),
        append=lambda batch: None,
        context=CONTEXT,
        decoder=Slow(),
        reuse=ContentReuse(None, None),
        batch_size=1,
        max_bytes=LIMITS.max_bytes,
    )
    ((seconds, uri),) = tally.slowest.entries
    assert (round(seconds), uri) == (30, str(folder / "0.png"))


def prepared(has_picture: bool) -> Prepared:
    picture = Picture(np.zeros((1, 1, 3), np.uint8), 1, 1, "PNG") if has_picture else None
    return Prepared(PictureInput(image_id="i", uri="u"), picture=picture)


@given(flags=st.lists(st.booleans(), max_size=60), size=st.integers(1, 7))
def test_batches_cover_each_input_once(flags: list[bool], size: int) -> None:
    items = [prepared(flag) for flag in flags]
    batches = list(in_batches(items, size))
    assert [id(item) for batch in batches for item in batch] == [id(item) for item in items]
    assert all(sum(item.picture is not None for item in batch) <= size for batch in batches)
    assert all(batches)


def test_the_next_batch_is_prepared_while_this_one_is_used() -> None:
    prepared_second = threading.Event()

    def batches() -> Iterator[list[Prepared]]:
        yield [prepared(True)]
        prepared_second.set()
        yield [prepared(True)]

    coming = ahead(batches(), defaultdict(float))
    next(coming)
    assert prepared_second.wait(timeout=10)


def test_an_error_while_preparing_reaches_the_consumer() -> None:
    def batches() -> Iterator[list[Prepared]]:
        yield [prepared(True)]
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(ahead(batches(), defaultdict(float)))


def test_damage_outside_of_the_pixels_is_named_in_a_row_that_is_ok(folder: Path) -> None:
    for name in ("damaged.png", "same.png"):
        (folder / name).write_bytes((folder / "3.png").read_bytes() + b"trailing")
    names = ["damaged.png", "same.png", "5.png"]
    tally, rows, _ = run([source(folder / name) for name in names], batch_size=1)
    assert (tally.ok, tally.failed, tally.copied) == (3, 0, 1)
    assert {row["status"] for row in rows} == {"ok"}
    details = {Path(str(row["uri"])).name: row["error_detail"] for row in rows}
    words = "PNG: 8 bytes follow its end"
    assert details == {"damaged.png": words, "same.png": words, "5.png": None}
