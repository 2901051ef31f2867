from __future__ import annotations

import numpy as np
import pytest

from pool3.gallery.scenes import KINDS, draw_scene, kind_of

SMALL = (96, 72)


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_the_same_seed_gives_the_same_picture_of_the_size_asked_for(seed: int) -> None:
    first, again = draw_scene(seed, size=SMALL), draw_scene(seed, size=SMALL)
    assert (first.mode, first.size) == ("RGB", SMALL)
    assert np.array_equal(np.asarray(first), np.asarray(again))


def test_scenes_differ_from_each_other_and_none_is_flat() -> None:
    pictures = [np.asarray(draw_scene(s, size=SMALL), np.float64) for s in range(2 * len(KINDS))]
    for number, picture in enumerate(pictures):
        assert picture.std() > 12, f"scene {number} shows next to nothing"
        for other in range(number):
            assert np.abs(picture - pictures[other]).mean() > 8, (number, other)


def test_neighbouring_seeds_show_different_things() -> None:
    assert {kind_of(seed) for seed in range(len(KINDS))} == set(KINDS)


def test_the_shape_of_the_frame_is_free() -> None:
    assert draw_scene(5, size=(40, 130)).size == (40, 130)
