"""Which files changed since an index was built: rewritten ones, and those with new deletions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pool3.features.table import delta_table, own_table
from pool3.index.changes import changed_files, table_id
from pool3.index.format.entries import TableEntry
from tests.delta_tables import put_vector, stored_vector
from tests.pool3.features.small_tables import opened, put, row, write_part


def manifest_of(uri: str) -> Any:
    """The part of a manifest that names the table, at its newest version."""
    table = own_table(uri)
    assert table is not None
    return SimpleNamespace(
        table=TableEntry(uri=uri, version=table.version), table_id=table_id(table)
    )


def test_a_file_with_new_deletions_is_lost_and_gained(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    put(uri, [write_part(uri, [row("a"), row("b")]), write_part(uri, [row("c")])])
    base = manifest_of(uri)
    assert changed_files(opened(uri), base) == ((), ())
    path = next(file.path for file in opened(uri).files if file.rows == 2)
    put_vector(tmp_path / "t", path, stored_vector([1]))
    table = delta_table(uri)
    assert table is not None
    changes = changed_files(table, base)
    assert changes is not None
    gained, lost = changes
    assert [(file.path, file.rows) for file in gained] == [(path, 1)]
    assert [(file.path, file.rows) for file in lost] == [(path, 2)]
    read = [batch.column(0).to_pylist() for batch in table.read(gained[0], ["image_id"])]
    assert read == [["a"]]
