"""Groups of files are merged into one file each, without the erased rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pool3.features.merge import Merged, require_same_rows, sum_of_ids
from pool3.storage.tables import TableFile
from tests.pool3.features.small_tables import FEATURE_SCHEMA, put, row, write_part
from tests.udfs.arrow import Broadcast, summaries
from udfs.compact import GROUP_SCHEMA, group_rows, merge_group

NAMES = [f"{number * 7919 % 1000:03d}" for number in range(60)]


def merges(table_uri: str, groups: Sequence[Sequence[TableFile]], erased: set[str]) -> list[Merged]:
    files = [file for group in groups for file in group]
    table = put(table_uri, files)
    schema = FEATURE_SCHEMA.serialize().to_pybytes()
    function = merge_group(table, Broadcast(erased), "run", schema)
    batches = group_rows(groups).to_batches(max_chunksize=1)
    assert all(batch.schema.names == GROUP_SCHEMA.names for batch in batches)
    return [Merged.from_dict(task) for task in summaries(function, batches)]


def test_each_group_is_one_sorted_file_with_its_rows(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    files = [
        write_part(uri, [row(name) for name in NAMES[start : start + 10]])
        for start in range(0, 60, 10)
    ]
    erased = {NAMES[0], NAMES[25], "no such id"}
    results = merges(uri, [files[:2], files[2:5], files[5:]], erased)
    require_same_rows(results, 60)
    expected = [NAMES[:20], NAMES[20:50], NAMES[50:]]
    for merged, names in zip(results, expected, strict=True):
        left = sorted(set(names) - erased)
        assert merged.file is not None
        stored = pq.read_table(f"{uri}/{merged.file.path}").to_pylist()
        assert [entry["image_id"] for entry in stored] == left
        assert [entry["features"] for entry in stored] == [row(name)["features"] for name in left]
        assert (merged.read, merged.erased) == (len(names), len(names) - len(left))
        assert merged.expected_sum == merged.written_sum == sum_of_ids(left)
    paths = [merged.file.path for merged in results if merged.file]
    assert len({*paths, *(file.path for file in files)}) == len(paths) + len(files)


def test_a_group_of_erased_rows_has_no_file(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    file = write_part(uri, [row("a"), row("b")])
    (merged,) = merges(uri, [[file]], {"a", "b"})
    assert (merged.file, merged.read, merged.erased, merged.written) == (None, 2, 2, 0)


def test_without_groups_nothing_is_merged() -> None:
    assert group_rows([]).num_rows == 0
    assert pa.types.is_null(group_rows([]).schema.field("group").type)
