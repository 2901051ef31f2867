from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pool3.errors import UsageError
from pool3.gallery.__main__ import main
from pool3.gallery.drawing import ORIGINAL, draw_gallery, read_truth
from pool3.gallery.variants import VARIANT_SUFFIXES


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    draw_gallery(folder, n_scenes=2)
    return folder


def test_the_truth_names_every_picture_and_stands_outside_their_folder(gallery: Path) -> None:
    entries = read_truth(gallery / "truth.csv")
    assert {entry.name for entry in entries} == {p.name for p in (gallery / "pictures").iterdir()}
    assert sorted(path.name for path in gallery.iterdir()) == ["pictures", "truth.csv"]
    kinds = Counter(entry.kind for entry in entries)
    assert kinds == dict.fromkeys((ORIGINAL, *VARIANT_SUFFIXES), 2)
    for entry in entries:
        assert entry.name.startswith(f"{entry.scene}--{entry.kind}.")


def test_drawing_fewer_scenes_again_leaves_none_of_the_old(tmp_path: Path) -> None:
    draw_gallery(tmp_path, n_scenes=2)
    entries = draw_gallery(tmp_path, n_scenes=1)
    assert {entry.name for entry in entries} == {p.name for p in (tmp_path / "pictures").iterdir()}


def test_the_files_of_others_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holiday = tmp_path / "pictures" / "holiday.jpg"
    holiday.parent.mkdir()
    holiday.write_bytes(b"mine")
    assert main(["draw", "--output", str(tmp_path), "--scenes", "1"]) == 2
    assert "holiday.jpg" in capsys.readouterr().err
    assert [path.name for path in holiday.parent.iterdir()] == ["holiday.jpg"]
    assert not (tmp_path / "truth.csv").exists()


def test_no_scenes_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        draw_gallery(tmp_path / "none", n_scenes=0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", ["", "[]", "name,scene\na,b\n", "name,scene,kind\na,b\n"])
def test_a_file_that_is_no_truth_is_named(tmp_path: Path, content: str) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(content)
    with pytest.raises(UsageError, match=r"truth\.csv"):
        read_truth(truth)
