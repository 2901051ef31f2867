"""Each file of the corpus in a decoder process: its code, its time and its memory."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from pool3.errors import PictureError
from pool3.images.decode import decode
from pool3.images.pool import DecodePool
from tests.hostile.bombs import scans
from tests.hostile.corpus import GROUPS
from tests.hostile.damaged import WHOLE
from tests.hostile.kinds import four_inks
from tests.hostile.made import SCENE, saved


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(processes=2, size=8, resize="pil-bilinear", timeout_s=20.0) as pool:
        yield pool


@pytest.mark.parametrize("group", GROUPS)
def test_each_file_has_the_code_that_fits_and_costs_no_process(
    pool: DecodePool, group: str
) -> None:
    files = list(GROUPS[group]())
    assert len({one.name for one in files}) == len(files) > 0
    wrong = []
    before = pool.pids
    for one, outcome in pool.decode((one, one.data) for one in files):
        code = outcome.code if isinstance(outcome, PictureError) else None
        if code not in one.codes:
            wrong.append((one.name, sorted(map(str, one.codes)), outcome))
    assert not wrong
    assert pool.pids == before


def test_a_small_file_of_many_passes_costs_its_deadline_and_no_more() -> None:
    slow, good = scans(10_000, 4000), WHOLE["png"]
    assert len(slow) < 400_000
    with DecodePool(processes=1, size=8, resize="pil-bilinear", timeout_s=1.0) as pool:
        started = time.monotonic()
        outcomes = [outcome for _, outcome in pool.decode(enumerate([good, slow, good]))]
        took = time.monotonic() - started
    assert [getattr(found, "code", "ok") for found in outcomes] == ["ok", "timeout", "ok"]
    assert took < 10


def test_four_inks_keep_their_colours_however_they_are_stored() -> None:
    expected = np.asarray(SCENE, float)
    files = four_inks()
    for name in ("cmyk", "cmyk-unmarked", "ycck"):
        found = np.asarray(decode(files[name]).image, float)
        assert np.abs(found - expected).mean() < 6, name


@pytest.mark.parametrize("name", [b"text-3-million.png", b"comments.jpg"])
def test_text_changes_no_pixel(name: bytes) -> None:
    [data] = [one.data for one in GROUPS["text"]() if one.name == name]
    kind = "png" if name.endswith(b"png") else "JPEG"
    bare = WHOLE["png"] if kind == "png" else saved(SCENE, kind)
    assert np.array_equal(np.asarray(decode(data).image), np.asarray(decode(bare).image))
