from __future__ import annotations

from pathlib import Path

import pytest

from pool3.errors import UsageError
from pool3.gallery.drawing import ORIGINAL, Entry, draw_gallery
from pool3.gallery.scoring import Answer, K, search_variants, sheet, table

ENTRIES = [
    Entry(f"{scene}--{kind}.png", scene, kind)
    for scene in ("a", "b", "c")
    for kind in (ORIGINAL, "crop", "flip")
]
IDS = [f"/gallery/pictures/{entry.name}" for entry in ENTRIES]


def same_scene_first(image_id: str, k: int) -> list[tuple[str, float]]:
    scene = image_id.rsplit("/", maxsplit=1)[-1][0]
    ranked = sorted(IDS, key=lambda other: (other != image_id, f"/{scene}--" not in other))
    return [(hit, rank / 10) for rank, hit in enumerate(ranked[:k])]


def test_a_perfect_index_has_recall_one() -> None:
    answers = search_variants(ENTRIES, Path("/gallery"), same_scene_first)
    assert [answer.query.kind for answer in answers] == ["crop", "flip"] * 3
    assert all(answer.is_correct for answer in answers)
    assert table(answers).splitlines()[2].split() == ["crop", "3", "3", "1.000"]


def test_the_query_itself_never_counts_as_a_hit() -> None:
    answers = search_variants(ENTRIES, Path("/gallery"), same_scene_first)
    for answer in answers:
        assert answer.query not in [hit for hit, _ in answer.hits]
        assert len(answer.hits) >= K


def test_an_index_that_finds_other_scenes_has_recall_zero() -> None:
    def worst(image_id: str, k: int) -> list[tuple[str, float]]:
        return [(hit, 0.0) for hit in IDS if hit[18] != image_id[18]][:k]

    answers = search_variants(ENTRIES, Path("/gallery"), worst)
    assert table(answers).splitlines()[-5].split() == ["all", "6", "0", "0.000"]


def test_other_variants_do_not_count_as_hits() -> None:
    original, crop, flip = ENTRIES[:3]
    stranger = (ENTRIES[3], 0.1)
    assert not Answer(crop, [(flip, 0.1)]).is_correct
    assert Answer(crop, [(flip, 0.1)] * 20 + [(original, 0.2)]).is_correct
    assert Answer(crop, [stranger] * (K - 1) + [(flip, 0.1), (original, 0.2)]).is_correct
    assert not Answer(crop, [stranger] * K + [(original, 0.2)]).is_correct


def test_enough_hits_are_requested_to_reach_the_original_behind_its_siblings() -> None:
    requested: list[int] = []

    def search(image_id: str, k: int) -> list[tuple[str, float]]:
        requested.append(k)
        return same_scene_first(image_id, k)

    search_variants(ENTRIES, Path("/gallery"), search)
    assert min(requested) >= 1 + 1 + K  # itself, its one sibling, and five hits


def test_another_picture_in_the_index_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"x\.png"):
        search_variants(ENTRIES, Path("/gallery"), lambda image_id, k: [("/elsewhere/x.png", 0.0)])


def test_the_sheet_shows_one_query_of_each_kind(tmp_path: Path) -> None:
    entries = draw_gallery(tmp_path, n_scenes=1)
    ids = {str(tmp_path / "pictures" / entry.name): entry for entry in entries}
    answers = search_variants(
        entries, tmp_path, lambda image_id, k: [(hit, 0.5) for hit in ids][:k]
    )
    drawn = sheet(answers, tmp_path)
    kinds = len({entry.kind for entry in entries}) - 1
    assert drawn.width > 1000
    assert drawn.height > 200 * kinds
