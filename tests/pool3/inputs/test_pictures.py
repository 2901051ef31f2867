"""Every file is an input, except for the names that table writers reserve."""

from __future__ import annotations

from pathlib import Path

import pytest

from pool3.errors import UsageError
from pool3.inputs.pictures import glob_pattern, list_pictures

PICTURES = ["_MG_0001.JPG", "a:b.jpg", "100% #1.jpg", "sub/_2.png", "sub/deep/x.JPG", "notes.txt"]
ASIDE = [".hidden.jpg", "_SUCCESS", "_temporary/0/x.jpg", "sub/_spark_metadata/0", ".git/x.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in [*PICTURES, *ASIDE]:
        path = tmp_path / "lake" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "lake"


def below(folder: Path, where: str, glob: str | None = None) -> set[str]:
    listed = list_pictures(where, glob=glob).objects
    return {picture.uri.removeprefix(f"{folder}/") for picture in listed}


def test_a_folder_means_every_file_below_it(folder: Path) -> None:
    listing = list_pictures(str(folder))
    assert below(folder, str(folder)) == set(PICTURES)
    assert [picture.uri for picture in listing.objects] == sorted(
        picture.uri for picture in listing.objects
    )
    assert listing.set_aside == {"dot_name": 2, "bookkeeping": 3}


def test_globs(folder: Path) -> None:
    assert below(folder, f"{folder}/*.jpg") == {"a:b.jpg", "100% #1.jpg"}
    assert below(folder, f"{folder}/**/*.JPG") == {"_MG_0001.JPG", "sub/deep/x.JPG"}
    assert below(folder, f"{folder}/sub/*") == {"sub/_2.png"}
    assert below(folder, str(folder), "*.JPG") == {"_MG_0001.JPG", "sub/deep/x.JPG"}
    assert below(folder, str(folder), "sub/*.png") == {"sub/_2.png"}


def test_a_path_that_exists_is_no_glob(tmp_path: Path) -> None:
    (tmp_path / "[old]").mkdir()
    (tmp_path / "[old]" / "a?.jpg").write_bytes(b"x")
    assert below(tmp_path, str(tmp_path / "[old]")) == {"[old]/a?.jpg"}
    assert below(tmp_path, str(tmp_path / "[old]" / "a?.jpg")) == {"[old]/a?.jpg"}


@pytest.mark.parametrize(
    ("glob", "inside", "outside"),
    [
        ("[ab]*.jpg", "a1.jpg", "c1.jpg"),
        ("[!ab].jpg", "c.jpg", "a.jpg"),
        ("**", "a/b/c", None),
        ("a+(b).jpg", "a+(b).jpg", "ab.jpg"),
        ("**/x/*.png", "x/1.png", "x/y/1.png"),
    ],
)
def test_glob_patterns(glob: str, inside: str, outside: str | None) -> None:
    assert glob_pattern(glob).fullmatch(inside)
    assert outside is None or not glob_pattern(glob).fullmatch(outside)


def test_an_input_without_pictures_is_an_error(folder: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        list_pictures(str(folder / "nowhere"))
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match="it is empty"):
        list_pictures(str(folder / "empty"))
    with pytest.raises(UsageError, match="set aside as not_in_glob"):
        list_pictures(str(folder), glob="*.webp")


@pytest.mark.parametrize(
    "log", ["_delta_log/0.json", ".hoodie/hoodie.properties", "metadata/v1.metadata.json"]
)
def test_tables_below_a_folder_of_pictures_are_set_aside(folder: Path, log: str) -> None:
    for name in ("a-first.parquet", "x.parquet", "z/last.parquet", log):
        path = folder / "table" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert below(folder, str(folder)) == set(PICTURES)
    with pytest.raises(UsageError, match="table"):
        list_pictures(str(folder / "table"))
