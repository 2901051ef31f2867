"""Existing rows of a table: each with the file and the row where it is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from tests.pool3.features.small_tables import FEATURE_SCHEMA, put, row, write_part
from tests.udfs.arrow import file_batches, run
from udfs.existing import EXISTING_SCHEMA, read_existing


def test_rows_come_with_their_places_and_columns_that_a_file_lacks_are_null(
    tmp_path: Path,
) -> None:
    uri = str(tmp_path / "t")
    with_meta = FEATURE_SCHEMA.append(pa.field("meta", pa.struct([("label", pa.string())])))
    narrow = FEATURE_SCHEMA.remove(FEATURE_SCHEMA.get_field_index("etag"))
    files = [
        write_part(uri, [row(f"{n:05d}", meta={"label": "x"}) for n in range(5000)], with_meta),
        write_part(uri, [row("b", content_sha256="aa"), row("a", status="gone")], narrow),
    ]
    table = put(uri, files, schema=with_meta)
    names = [*EXISTING_SCHEMA.names, "meta"]
    function = read_existing(table, names)
    batches = run(function, file_batches([table.files[1], table.files[0]], size=1))
    expected = to_arrow_schema(EXISTING_SCHEMA, timezone="UTC")
    result = []
    for batch in batches:
        assert batch.schema.names == names
        for field in expected:
            assert batch.schema.field(field.name).type.id == field.type.id
        result += batch.to_pylist()
    assert len(result) == 5002
    stored = [pq.read_table(f"{uri}/{file.path}").to_pylist() for file in table.files]
    places = set()
    for entry in result:
        source = stored[entry["file"]][entry["row"]]
        places.add((entry["file"], entry["row"]))
        for name in ("image_id", "uri", "status", "error", "content_sha256", "etag"):
            assert entry[name] == source.get(name)
        assert (entry["meta"] or {}).get("label") == (source.get("meta") or {}).get("label")
    assert len(places) == 5002


def test_only_the_named_columns_are_read(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    table = put(uri, [write_part(uri, [row("a"), row("b")])])
    function = read_existing(table, ["image_id", "row", "file"])
    (batch,) = run(function, file_batches(table.files))
    assert batch.to_pydict() == {"image_id": ["a", "b"], "row": [0, 1], "file": [0, 0]}
