"""The suppression list: erased ids are suppressed, and the list does not contain them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.options.shared import ids_named
from pool3.errors import UsageError
from pool3.features.suppression import is_suppressed, read_suppressed, suppress, suppressed_uri


def test_the_list_grows_and_contains_no_id(tmp_path: Path) -> None:
    uri = str(tmp_path / "table")
    assert read_suppressed(uri) == frozenset()
    assert suppress(uri, ["/a/secret.jpg", "/b"]) == 2
    assert suppress(uri, ["/b", "/c"]) == 1
    listed = read_suppressed(uri)
    assert [is_suppressed(name, listed) for name in ("/a/secret.jpg", "/b", "/c", "/d")] == [
        True, True, True, False,
    ]  # fmt: skip
    text = Path(suppressed_uri(uri)).read_text()
    assert "secret" not in text
    assert json.loads(text)["format_version"] == 1


def test_a_list_in_a_bucket(s3_bucket: str) -> None:
    suppress(f"{s3_bucket}/t", ["a"])
    assert is_suppressed("a", read_suppressed(f"{s3_bucket}/t"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format_version": 2, "sha256": []}', "format_version 1"),
        ("[]", "something else"),
        ("{}", "something else"),
        ("\0", "something else"),
    ],
)
def test_a_list_that_cannot_be_read_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    place = Path(suppressed_uri(str(tmp_path)))
    place.parent.mkdir(parents=True)
    place.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_suppressed(str(tmp_path))


def test_ids_are_named_in_the_option_or_in_a_file(tmp_path: Path) -> None:
    assert ids_named("s3://lake/a.jpg,/b c.jpg") == {"s3://lake/a.jpg", "/b c.jpg"}
    lines = tmp_path / "ids.txt"
    lines.write_bytes("\N{BYTE ORDER MARK}/a,1.jpg\r\n\n/line\u2028separator\n".encode())
    assert ids_named(f"@{lines}") == {"/a,1.jpg", "/line\u2028separator"}
    # The id is the path of a picture file, which must not be read as a list of ids.
    assert ids_named(str(lines)) == {str(lines)}


@given(ids=st.sets(st.text(st.characters(codec="utf-8")), min_size=1))
def test_json_names_any_id(tmp_path_factory: pytest.TempPathFactory, ids: set[str]) -> None:
    path = tmp_path_factory.mktemp("ids") / "ids.json"
    path.write_text(json.dumps(sorted(ids)))
    assert ids_named(f"@{path}") == ids


@pytest.mark.parametrize("content", [b"\n", b"\xff\xfe", None])
def test_a_file_without_ids_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ids.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"--erase|cannot be read"):
        ids_named(f"@{path}")
