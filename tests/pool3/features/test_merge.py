"""Merging files: the groups, and that every row is copied once, whatever its columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.errors import Pool3Error
from pool3.features import merge
from pool3.features.merge import Merged, merge_files, merge_groups, require_same_rows, sum_of_ids
from pool3.features.schema import FEATURE_SCHEMA
from pool3.storage.tables import TableFile
from tests.pool3.features.small_tables import put, row, write_part

META = pa.struct([("label", pa.string()), ("tags", pa.list_(pa.struct([("n", pa.int64())])))])
WITH_META = FEATURE_SCHEMA.append(pa.field("meta", META))


def file(number: int, size: int) -> TableFile:
    name = f"{number:04d}"
    return TableFile(path=f"p{name}", size=size, rows=1, smallest=name, largest=name)


@given(
    sizes=st.lists(st.integers(1, 300), max_size=60),
    target=st.integers(2, 250),
    forced=st.sets(st.integers(0, 59)),
)
def test_groups_cover_what_must_be_rewritten_once(
    sizes: list[int], target: int, forced: set[int]
) -> None:
    files = [file(number, size) for number, size in enumerate(sizes)]
    must = {f"p{number:04d}" for number in forced}
    groups = merge_groups(files, target_bytes=target, forced=must)
    grouped = [member for group in groups for member in group]
    assert len(grouped) == len(set(grouped))
    assert must & {f.path for f in files} <= {f.path for f in grouped}
    for group in groups:
        assert all(2 * f.size < target or f.path in must for f in group)
        assert len(group) == 1 or sum(f.size for f in group) <= target
        assert len(group) > 1 or group[0].path in must
        assert list(group) == sorted(group, key=lambda f: str(f.smallest))


@given(st.lists(st.integers(1, 300), min_size=2, max_size=60))
def test_merging_again_and_again_ends(sizes: list[int]) -> None:
    files = [file(number, size) for number, size in enumerate(sizes)]
    for _ in range(len(sizes)):
        groups = merge_groups(files, target_bytes=200)
        if not groups:
            break
        gone = {member.path for group in groups for member in group}
        merged = [
            replace(group[0], path="m" + group[0].path, size=sum(f.size for f in group))
            for group in groups
        ]
        files = [f for f in files if f.path not in gone] + merged
    assert not merge_groups(files, target_bytes=200)
    assert sum(f.size for f in files) == sum(sizes)
    assert sum(f.size < 100 for f in files) <= 1


def merged(table_uri: str, files: list[TableFile], schema: pa.Schema, **options: object) -> Merged:
    table = put(table_uri, files, schema=schema)
    return merge_files(
        table, files, without=frozenset(), schema=schema, run_id="x", number=3, **options
    )  # type: ignore[arg-type]


def test_rows_arrive_sorted_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "_ROWS_AT_ONCE", 3)
    uri = str(tmp_path / "t")
    names = [f"{number * 7919 % 100:02d}" for number in range(20)]
    rows = [
        row(name, thumbnail=name.encode(), meta={"label": None, "tags": [{"n": 1}, None]})
        for name in names[:15]
    ]
    rows += [row(name, status="failed", error="empty", features=None, meta=None)
             for name in names[15:]]  # fmt: skip
    files = [write_part(uri, rows[:6], WITH_META), write_part(uri, rows[6:], WITH_META)]
    result = merged(uri, files, WITH_META)
    assert result.file is not None
    stored = pq.read_table(tmp_path / "t" / result.file.path)
    wanted = pa.Table.from_pylist(rows, WITH_META).sort_by("image_id")
    assert stored.to_pylist() == wanted.to_pylist()
    assert stored.schema.field("features").type == wanted.schema.field("features").type
    assert (result.read, result.erased, result.written, result.file.rows) == (20, 0, 20, 20)
    assert (result.file.smallest, result.file.largest) == (min(names), max(names))
    assert result.expected_sum == result.written_sum == sum_of_ids(names)
    assert Merged.from_dict(result.as_dict()) == result


def test_older_files_get_the_columns_that_they_lack(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    narrow = FEATURE_SCHEMA.append(pa.field("meta", pa.struct([("label", pa.string())])))
    narrow = narrow.remove(narrow.get_field_index("thumbnail"))
    old = write_part(uri, [row("b", meta={"label": "x"})], narrow)
    new = write_part(uri, [row("a", meta={"label": "y", "tags": []})], WITH_META)
    bare = write_part(uri, [row("c")])
    result = merged(uri, [old, new, bare], WITH_META)
    assert result.file is not None
    stored = pq.read_table(tmp_path / "t" / result.file.path)
    assert stored["meta"].to_pylist() == [
        {"label": "y", "tags": []}, {"label": "x", "tags": None}, None,
    ]  # fmt: skip
    assert stored.schema.names == WITH_META.names


def test_erased_rows_are_left_out_and_without_rows_no_file_is_written(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    files = [write_part(uri, [row("a"), row("b")]), write_part(uri, [row("c")])]
    table = put(uri, files)
    some = merge_files(
        table, files, without={"b", "z"}, schema=FEATURE_SCHEMA, run_id="x", number=0
    )
    assert (some.read, some.erased, some.written) == (3, 1, 2)
    require_same_rows([some], 3)
    none = merge_files(table, files[1:], without={"c"}, schema=FEATURE_SCHEMA, run_id="x", number=0)
    assert (none.file, none.read, none.erased, none.written) == (None, 1, 1, 0)
    require_same_rows([none], 1)


def test_an_id_that_occurs_twice_is_an_error(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    files = [write_part(uri, [row("a"), row("b")]), write_part(uri, [row("b")])]
    with pytest.raises(Pool3Error, match="'b' more than once"):
        merged(uri, files, FEATURE_SCHEMA)


@pytest.mark.parametrize(
    "change",
    [{"read": 4}, {"read": 2, "written": 2}, {"written": 4}, {"erased": 1}, {"written_sum": 8}],
)
def test_other_rows_than_before_are_an_error(change: dict[str, int]) -> None:
    good = Merged(file=None, read=3, erased=0, written=3, expected_sum=7, written_sum=7)
    require_same_rows([good, good], 6)
    with pytest.raises(Pool3Error, match="nothing was committed"):
        require_same_rows([good, replace(good, **change)], 6)  # type: ignore[arg-type]


@given(st.lists(st.text(), max_size=20), st.randoms())
def test_the_sum_of_ids_distinguishes_collections(ids: list[str], random: object) -> None:
    shuffled = sorted(ids, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert sum_of_ids(shuffled) == sum_of_ids(ids)
    assert sum_of_ids([*ids, "one more"]) != sum_of_ids(ids)
