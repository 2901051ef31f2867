"""Tables of inputs: every row is read once, from every format, without inference."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from pool3 import storage
from pool3.errors import UsageError
from pool3.inputs import InputOptions, readers, table_files
from pool3.inputs.columns import table_columns
from pool3.inputs.readers import read_share, share_schema
from pool3.inputs.rows import POSITIONS_PER_FILE, RowMaker
from pool3.inputs.table_files import Share, TableInput, format_of, table_input

ROWS = {"uri": ["/d/a.jpg", '/d/b,\n"c".jpg', "/d/é.jpg"], "label": ["x", None, "00123"]}


def read(where: Path | str, *, glob: str | None = None, **options: Any) -> list[dict[str, Any]]:
    """Read the shares of a table one after the other, as tasks do."""
    input_options = InputOptions(
        inputs=(str(where),), **{"uri_column": "uri", "allow_uri": ("/d",), **options}
    )
    table = table_input(
        str(where),
        glob=glob,
        first_number=0,
        csv_columns=input_options.csv_columns,
        csv_escape=input_options.csv_escape,
    )
    return work(table, input_options)


def work(table: TableInput, input_options: InputOptions) -> list[dict[str, Any]]:
    given = table.schema or share_schema(*table.shares)
    columns = table_columns(given, input_options, table.uri)
    maker = RowMaker(columns, input_options, [(0, table.uri)], content=True)
    rows: list[dict[str, Any]] = []
    for sent in table.shares:
        share = Share.from_json(sent.to_json())
        for position, batch in read_share(share, given, columns.carried):
            positions = pa.array(range(position, position + batch.num_rows), pa.int64())
            for piece in maker.rows(batch, positions):
                rows += piece.to_pylist()
    return rows


def write_csv(path: Path, rows: dict[str, Sequence[Any]]) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(rows)
        writer.writerows(
            ["" if value is None else value for value in row]
            for row in zip(*rows.values(), strict=True)
        )


def write_json(path: Path, rows: dict[str, Sequence[Any]]) -> None:
    lines = [
        json.dumps(dict(zip(rows, row, strict=True))) for row in zip(*rows.values(), strict=True)
    ]
    path.write_text("".join(f"{line}\n" for line in lines))


WRITERS = {
    "t.parquet": lambda path, rows: pq.write_table(pa.table(rows), path, row_group_size=2),
    "t.csv": write_csv,
    "t.tsv": write_csv,
    "t.jsonl": write_json,
    "t.json": write_json,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / name
    WRITERS[name](path, ROWS)
    if packed and path.suffix != ".parquet":
        packed_path = path.with_name(f"{name}.gz")
        packed_path.write_bytes(gzip.compress(path.read_bytes()))
        path = packed_path
    rows = read(path)
    assert [row["uri"] for row in rows] == ROWS["uri"]
    assert [row["image_id"] for row in rows] == ROWS["uri"]
    assert [row["meta"] for row in rows] == [{"label": label} for label in ROWS["label"]]
    assert [row["position"] for row in rows] == [0, 1, 2]


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 12))
def test_shares_cover_each_row_of_a_parquet_file_once(
    tmp_path_factory: pytest.TempPathFactory, n_rows: int, group: int, n_splits: int
) -> None:
    path = tmp_path_factory.mktemp("shares") / "t.parquet"
    pq.write_table(pa.table({"n": list(range(n_rows))}), path, row_group_size=group)
    schema = pa.schema([("n", pa.int64())])
    result = []
    for split in range(n_splits):
        share = Share(
            source="s", file=str(path), format="parquet", number=3, split=split, n_splits=n_splits
        )
        for position, batch in read_share(share, schema, schema):
            places = range(position, position + batch.num_rows)
            result += list(zip(places, batch.column(0).to_pylist(), strict=True))
    assert sorted(result) == [(3 * POSITIONS_PER_FILE + n, n) for n in range(n_rows)]


def test_a_large_file_is_shared_and_read_in_small_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "SHARE_BYTES", 4 << 10)
    monkeypatch.setattr(readers, "_BATCH_BYTES", 1 << 10)
    pictures = [bytes([n]) * 512 for n in range(100)]
    table = pa.table({"id": [str(n) for n in range(100)], "bytes": pictures})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=10, compression="none")
    result = table_input(str(tmp_path / "t.parquet"), glob=None, first_number=0)
    assert len(result.shares) > 5
    schema = share_schema(result.shares[0])
    sizes = [b.num_rows for share in result.shares for _, b in read_share(share, schema, schema)]
    assert sum(sizes) == 100
    assert max(sizes) <= 2
    rows = work(result, InputOptions(inputs=("t",), content_column="bytes", id_column="id"))
    assert {row["image_id"]: row["content"] for row in rows} == {
        str(n): picture for n, picture in enumerate(pictures)
    }
    assert {row["uri"] for row in rows} == {str(tmp_path / "t.parquet")}
    assert {row["size"] for row in rows} == {512}
    assert {row["refused"] for row in rows} == {None}


def test_a_listing_has_its_own_size_etag_and_time(tmp_path: Path) -> None:
    columns = {
        "uri": ["/d/1", "/d/2", "/d/3"],
        "bytes": ["10", "20", ""],
        "tag": ['W/"abc"', "def", ""],
        "at": ["2026-01-02T03:04:05.678Z", "2026-01-02 03:04:05", ""],
    }
    write_csv(tmp_path / "t.csv", columns)
    rows = read(tmp_path / "t.csv", size_column="bytes", etag_column="tag", modified_column="at")
    assert [row["size"] for row in rows] == [10, 20, None]
    assert [row["etag"] for row in rows] == ["abc", "def", None]
    assert [row["modified_at"] and row["modified_at"].isoformat() for row in rows] == [
        "2026-01-02T03:04:05.678000+00:00", "2026-01-02T03:04:05+00:00", None
    ]  # fmt: skip
    assert "meta" not in rows[0]
    columns["bytes"][1] = "many"
    write_csv(tmp_path / "t.csv", columns)
    with pytest.raises(UsageError, match="number of bytes"):
        read(tmp_path / "t.csv", size_column="bytes")


def test_csv_without_a_header_is_read_by_names_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"/d/1","00123"\n"/d/2",""\n')
    (tmp_path / "b.csv").write_text("/d/3,x\n")
    rows = read(tmp_path, csv_columns=("uri", "label"))
    assert [(row["uri"], row["meta"]["label"]) for row in rows] == [
        ("/d/1", "00123"), ("/d/2", ""), ("/d/3", "x")
    ]  # fmt: skip
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path, csv_columns=("uri", "label", "more"))
    pq.write_table(pa.table({"uri": ["/d/4"]}), tmp_path / "c.parquet")
    with pytest.raises(UsageError, match=r"found \S+c.parquet"):
        read(tmp_path, csv_columns=("uri", "label"))


def test_ids_come_from_a_column_or_a_base(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"uri": ["/d/x/1.jpg", "/e/2.jpg", None], "n": [7, 8, 9]}), path)
    assert [row["image_id"] for row in read(path, id_column="n")] == ["7", "8", "9"]
    rows = read(path, id_from="relative:/d", allow_uri=("/",))
    assert [row["image_id"] for row in rows[:2]] == ["x/1.jpg", "/e/2.jpg"]
    assert [row["refused"] for row in rows] == [None, "not below the base of --id-from", "no uri"]
    for missing in (None, ""):
        pq.write_table(pa.table({"uri": ["/d/1", "/d/2"], "n": ["a", missing]}), path)
        with pytest.raises(UsageError, match=r"column n of \S+, row 2 of file 1"):
            read(path, id_column="n")


def test_bytes_are_taken_from_the_table_whatever_their_uri(tmp_path: Path) -> None:
    uris = ["/d/x.jpg", "https://shop/y.jpg?w=1", None]
    pq.write_table(pa.table({"uri": uris, "bytes": [b"x", b"yy", None]}), tmp_path / "t.parquet")
    rows = read(tmp_path / "t.parquet", content_column="bytes", allow_uri=())
    assert [row["refused"] for row in rows] == [None] * 3
    assert [row["content"] for row in rows] == [b"x", b"yy", b""]
    assert [row["size"] for row in rows] == [1, 2, 0]
    assert rows[0]["image_id"] == rows[0]["uri"] == "/d/x.jpg"
    assert rows[2]["uri"] == str(tmp_path / "t.parquet")
    assert len({row["image_id"] for row in rows}) == 3


def test_rows_that_may_not_be_fetched_are_still_rows(tmp_path: Path) -> None:
    uris = ["/d/ok.jpg", "/etc/passwd", None, "http://x/y", "s3://k:s@b/x", None]
    pq.write_table(pa.table({"uri": pa.array(uris, pa.string())}), tmp_path / "t.parquet")
    rows = read(tmp_path / "t.parquet")
    assert [row["refused"] is None for row in rows] == [True] + [False] * 5
    assert len({row["image_id"] for row in rows}) == 6


def test_folders_of_files_and_their_partitions(tmp_path: Path) -> None:
    for day in ("2026-01-01", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / "t" / f"day={day}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"uri": [f"/d/{day}"]}), folder / "part.parquet")
    (tmp_path / "t" / "_SUCCESS").write_bytes(b"")
    (tmp_path / "t" / "readme.txt").write_bytes(b"x")
    (tmp_path / "t" / "empty.csv").write_bytes(b"")
    result = table_input(str(tmp_path / "t"), glob=None, first_number=5)
    assert result.set_aside == {"bookkeeping": 1, "not_a_table": 1, "empty_file": 1}
    assert [share.number for share in result.shares] == [5, 6]
    metas = [row["meta"] for row in read(tmp_path / "t")]
    assert metas == [{"day": "2026-01-01"}, {"day": None}]
    assert len(read(tmp_path / "t", glob="day=2026*/*")) == 1
    assert len(read(tmp_path / "t" / "*" / "*.parquet")) == 2


def test_files_with_other_columns_than_the_first_are_errors(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": ["/d/1"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"uri": ["/d/2"], "more": [1]}), tmp_path / "b.parquet")
    with pytest.raises(UsageError, match=r"more in \S+b.parquet"):
        read(tmp_path)
    pq.write_table(pa.table({"uri": ["/d/2"], "n": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(UsageError, match=r"b.parquet cannot be read"):
        read(tmp_path)
    pq.write_table(pa.table({"uri": ["/d/2"]}), tmp_path / "b.parquet")
    assert [row["meta"]["n"] for row in read(tmp_path)] == [1, None]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.parquet", "not parquet"), ("t.csv", "uri,n\n/d/1\n"), ("t.csv", "uri\n\xff\n"),
        ("t.jsonl", '{"uri": "/d/1"'), ("t.jsonl", '{"uri": 5}'),
        ("t.csv", "url\n/d/1\n"), ("t.csv.gz", "not gzip"), ("t.csv", "\xff\xfeu\0r\0i\0\n\0"),
    ],
)  # fmt: skip
def test_files_of_another_format_are_errors(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(UsageError):
        read(tmp_path / name)


# Written by Spark 4.3 with a header and its own options.
SPARK_CSV = r"""uri,label
/d/0,a\b
/d/1,"say \"hi\""
/d/2,"a,b\\"
/d/3,"\\\""
/d/4,"line
feed \\ x"
/d/5,""
/d/6,\
/d/7,
/d/8,"a\\nb,c"
"""
SPARK_LABELS = [
    "a\\b", 'say "hi"', "a,b\\", '\\"', "line\nfeed \\ x", "", "\\", None, "a\\nb,c"
]  # fmt: skip


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_with_escapes_is_read_as_spark_writes_it(
    tmp_path: Path, name: str, mark: bytes
) -> None:
    text = SPARK_CSV if name != "t.tsv" else re.sub(r"^(\S+?),", r"\1\t", SPARK_CSV, flags=re.M)
    data = mark + text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    rows = read(tmp_path / name, csv_escape="\\")
    assert [row["uri"] for row in rows] == [f"/d/{n}" for n in range(len(SPARK_LABELS))]
    assert [row["meta"]["label"] for row in rows] == SPARK_LABELS
    with pytest.raises(UsageError, match="escaped by a backslash; name --csv-escape"):
        read(tmp_path / name)


def test_escapes_are_an_option_of_csv_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "t.jsonl", ROWS)
    with pytest.raises(UsageError, match="CSV files with --csv-escape"):
        read(tmp_path / "t.jsonl", csv_escape="\\")
    for escape in ("", "ab", '"', ",", "\n", "é"):
        with pytest.raises(UsageError, match="one character of ASCII punctuation in --csv-escape"):
            read(tmp_path / "t.csv", csv_escape=escape)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    assert [row["uri"] for row in read(tmp_path / name)] == ROWS["uri"]


def test_a_json_field_without_a_value_at_first_has_the_type_of_the_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_BLOCK_BYTES", 256)
    empty = {"n": None, "f": None, "on": None, "never": None, "deep": {"tag": None}, "tags": []}
    full = {"n": 3, "f": 0.5, "on": "2026-01-01", "deep": {"tag": True}, "tags": ["x"]}
    rows = [{"uri": f"/d/{n}", **empty} for n in range(20)]
    last = {**empty, **full}
    text = "".join(f"{json.dumps(row)}\n" for row in [*rows, {"uri": "/d/last", **last}])
    (tmp_path / "t.jsonl").write_text(text)
    result = read(tmp_path / "t.jsonl")
    assert [row["meta"] for row in result] == [empty] * 20 + [last]
    # Also where only a later file has values; a field that has none anywhere is text.
    (tmp_path / "two").mkdir()
    write_json(tmp_path / "two" / "a.json", {"uri": ["/d/1"], "n": [None], "never": [None]})
    write_json(tmp_path / "two" / "b.json", {"uri": ["/d/2"], "n": [7], "never": [None]})
    table = table_input(str(tmp_path / "two"), glob=None, first_number=0)
    assert share_schema(*table.shares).field("n").type == pa.int64()
    assert share_schema(*table.shares).field("never").type == pa.string()
    assert share_schema(*table.shares, keep_untyped=True).field("never").type == pa.null()
    assert [row["meta"]["n"] for row in read(tmp_path / "two")] == [None, 7]


def test_json_keeps_its_types_and_dates_stay_text(tmp_path: Path) -> None:
    values = {
        "n": 3,
        "f": 0.5,
        "ok": True,
        "at": "2026-01-01",
        "deep": {"tags": ["a"], "on": "2026-01-01 00:00:00"},
    }
    (tmp_path / "t.jsonl").write_text(
        json.dumps({"uri": "/d/1", **values})
        + "\n"
        + json.dumps({"uri": "/d/2", "at": "soon"})
        + "\n"
    )
    first, second = read(tmp_path / "t.jsonl")
    assert first["meta"] == values
    assert second["meta"]["at"] == "soon"


def test_delta_is_read_at_its_newest_version_with_its_partitions(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    days = ["x y:%1", "é/", "x y:%1"]
    first = pa.table(
        {"uri": ["/d/1", "/d/2", "/d/3"], "day": days, "n": pa.array([1, 2, 3], pa.int16())}
    )
    write_deltalake(
        uri,
        pa.table({"uri": ["/d/old"], "day": ["x"], "n": pa.array([0], pa.int16())}),
        partition_by=["day"],
    )
    write_deltalake(uri, first, mode="overwrite")
    rows = read(uri)
    assert {(row["uri"], row["meta"]["day"], row["meta"]["n"]) for row in rows} == {
        ("/d/1", days[0], 1), ("/d/2", days[1], 2), ("/d/3", days[2], 3)
    }  # fmt: skip
    assert len({row["position"] for row in rows}) == 3
    for loose in (f"{uri}/*/*.parquet", next((tmp_path / "t").glob("day=*"))):
        with pytest.raises(UsageError, match="Delta"):
            read(loose)
    with pytest.raises(UsageError, match="--glob"):
        read(uri, glob="*.parquet")


@pytest.mark.parametrize(
    ("feature", "in_use"),
    [("deletionVectors", False), ("columnMapping", True), ("columnMapping", False)],
)
def test_delta_with_renamed_columns_is_an_error_and_an_unused_feature_is_none(
    tmp_path: Path, feature: str, in_use: bool
) -> None:
    uri = tmp_path / "t"
    write_deltalake(str(uri), pa.table({"uri": ["/d/1"]}))
    log = uri / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            features = {"readerFeatures": [feature], "writerFeatures": [feature]}
            action["protocol"] = {"minReaderVersion": 3, "minWriterVersion": 7, **features}
        if "metaData" in action and feature == "columnMapping" and in_use:
            action["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
            schema = json.loads(action["metaData"]["schemaString"])
            mapped = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-1"}
            schema["fields"][0]["metadata"] = mapped
            action["metaData"]["schemaString"] = json.dumps(schema)
    log.write_text("".join(f"{json.dumps(action)}\n" for action in actions))
    if in_use:
        with pytest.raises(UsageError, match=feature):
            read(uri)
    else:
        assert len(read(uri)) == 1


def test_tables_in_a_bucket_are_read_where_they_are(s3_bucket: str, tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name, ROWS)
        storage.put_file(f"{s3_bucket}/tables/{name}", tmp_path / name)
        rows = read(f"{s3_bucket}/tables/{name}")
        assert [row["uri"] for row in rows] == ROWS["uri"]
    delta = {"aws_conditional_put": "etag", "aws_endpoint": os.environ["AWS_ENDPOINT_URL"]}
    write_deltalake(f"{s3_bucket}/delta", pa.table(ROWS), storage_options=delta)
    assert [row["meta"]["label"] for row in read(f"{s3_bucket}/delta")] == ROWS["label"]
    with pytest.raises(UsageError, match="Delta"):
        read(f"{s3_bucket}/delta/*.parquet")


@pytest.mark.parametrize(
    ("log", "kind"),
    [(".hoodie/hoodie.properties", "Hudi"), ("metadata/v1.metadata.json", "Iceberg")],
)
def test_files_of_other_tables_are_never_read_directly(tmp_path: Path, log: str, kind: str) -> None:
    folder = tmp_path / "lake" / "t"
    (folder / log).parent.mkdir(parents=True)
    (folder / log).write_bytes(b"{}")
    (folder / "data").mkdir()
    pq.write_table(pa.table({"uri": ["/d/1"]}), folder / "data" / "a.parquet")
    for where in (folder, folder / "data", folder / "data" / "a.parquet", tmp_path / "lake"):
        with pytest.raises(UsageError, match=kind):
            read(where)


FAR_TIMES = [
    datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59),
    None,
]  # fmt: skip


def test_int96_times_of_all_years_are_right_at_any_depth(tmp_path: Path) -> None:
    """Spark writes timestamps as INT96 by default, which Arrow reads as nanoseconds by default."""
    times = pa.array(FAR_TIMES, pa.timestamp("us"))
    offsets = [0, 1, 2, 3, 4]
    lists = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([times], ["at"]))
    table = pa.table(
        {
            "uri": [f"/d/{n}" for n in offsets[:-1]],
            "changed": times,
            "at": times,
            "inside": pa.StructArray.from_arrays([times, lists], ["at", "list"]),
            "list": pa.ListArray.from_arrays(offsets, times),
            "map": pa.MapArray.from_arrays(offsets, pa.array(["k"] * 4), times),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", use_deprecated_int96_timestamps=True)
    assert "int96" in str(pq.ParquetFile(tmp_path / "t.parquet").schema)
    rows = read(tmp_path / "t.parquet", modified_column="changed")
    for row, expected in zip(rows, FAR_TIMES, strict=True):
        meta = row["meta"]
        assert row["modified_at"] == (expected and expected.replace(tzinfo=UTC))
        assert meta["at"] == meta["inside"]["at"] == expected
        assert meta["inside"]["list"] == [{"at": expected}]
        assert meta["list"] == [expected]
        assert meta["map"] == [("k", expected)]


def test_formats_by_name() -> None:
    names = {
        "a.parquet": "parquet", "a.PQ": "parquet", "a.snappy.parquet": "parquet", "a.csv.gz": "csv",
        "a.tsv": "csv", "a.jsonl.zst": "json", "a.ndjson": "json", "a.json": "json", "csv": None,
        "a.jpg": None, "a.parquet.gz": None, "a.csv.bak": None,
    }  # fmt: skip
    assert {name: format_of(f"/x/{name}") for name in names} == names
