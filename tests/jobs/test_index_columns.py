"""Columns of every type through an index: built, searched, filtered, printed, folded, exported."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import pool3
from jobs import build_index, compact_index
from jobs.build_index import BuildConfig
from jobs.options.compact_index import CompactIndexConfig
from pool3.cli.commands import main
from pool3.errors import UsageError
from pool3.index.export import export_index
from tests.jobs.index_tables import some_vectors

ROWS = 60
IDS = [f"id-{row:02d}" for row in range(ROWS)]
VECTORS = np.stack(list(some_vectors(IDS).values()))
START = dt.datetime(2026, 1, 1, 12, 0, 0, 1)
UTC_START = START.replace(tzinfo=dt.UTC)
UUIDS = [uuid.UUID(int=row) for row in range(ROWS)]


def days(row: int) -> dt.timedelta:
    return dt.timedelta(days=row)


#: For each column: its type in the table, the value of a row, and a condition that row 7 and no
#: other of 60 passes; None where there is no way to compare.
KINDS: dict[str, tuple[pa.DataType, Any, str | None]] = {
    "text": (pa.string(), lambda row: f"t{row}", "text = 't7'"),
    "coded": (pa.dictionary(pa.int32(), pa.string()), lambda row: f"d{row}", "coded = 'd7'"),
    "tiny": (pa.uint8(), lambda row: row + 190, "tiny = 197"),
    "unsigned": (pa.uint32(), lambda row: 2**32 - 60 + row, f"unsigned = {2**32 - 53}"),
    "huge": (
        pa.uint64(), lambda row: 2**63 + (row << 20), f"huge = {float(2**63 + (7 << 20))!r}",
    ),
    "half": (pa.float16(), lambda row: row / 4, "half = 1.75"),
    "truth": (pa.bool_(), lambda row: row == 7, "truth = TRUE"),
    "day": (pa.date32(), lambda row: (START + days(row)).date(), "day = '2026-01-08'"),
    "day64": (pa.date64(), lambda row: (START + days(row)).date(), "day64 = '2026-01-08'"),
    "clock": (pa.time64("us"), lambda row: dt.time(1, row), None),
    "seconds": (
        pa.timestamp("s"),
        lambda row: (START + days(row)).replace(microsecond=0),
        "seconds = '2026-01-08T12:00:00'",
    ),
    "moment": (
        pa.timestamp("us"), lambda row: START + days(row), "moment = '2026-01-08T12:00:00.000001'",
    ),
    "instant": (
        pa.timestamp("ns", "Asia/Tokyo"),
        lambda row: UTC_START + days(row),
        "instant = '2026-01-08T12:00:00.000001Z'",
    ),
    "last": (
        pa.timestamp("us", "UTC"),
        lambda row: dt.datetime(9999, 12, 31, tzinfo=dt.UTC) - days(row),
        "last = '9999-12-24T00:00:00Z'",
    ),
    "span": (pa.duration("ms"), days, None),
    "price": (pa.decimal128(9, 2), lambda row: decimal.Decimal(row) / 4, "price = 1.75"),
    "uid": (pa.uuid(), lambda row: UUIDS[row].bytes, f"uid = '{UUIDS[7]}'"),
}  # fmt: skip
LEFT_OUT = {"nothing": pa.null(), "tags": pa.list_(pa.string()), "raw": pa.binary()}


def expected(name: str, row: int) -> Any:
    return str(UUIDS[row]) if name == "uid" else KINDS[name][1](row)


def column(name: str, rows: range) -> pa.Array:
    kind = KINDS[name][0]
    values = [KINDS[name][1](row) for row in rows]
    if isinstance(kind, pa.DictionaryType):
        return pa.array(values).dictionary_encode()
    return pa.array(values, kind)


def table_of(rows: range, **columns: pa.Array) -> pa.Table:
    features = pa.array(VECTORS[rows.start : rows.stop].tolist(), pa.list_(pa.float32()))
    return pa.table(
        {"image_id": IDS[rows.start : rows.stop], "features": features}
        | {name: column(name, rows) for name in KINDS}
        | {name: pa.nulls(len(rows), kind) for name, kind in LEFT_OUT.items()}
        | columns
    )


def write_features(folder: Path) -> str:
    """Two files below two partitions; one column begins in the second file."""
    for shop, rows, more in (
        ("a%20b", range(40), {}),
        ("c", range(40, ROWS), {"late": pa.array(range(20), pa.int16())}),
    ):
        (folder / f"shop={shop}").mkdir(parents=True)
        pq.write_table(table_of(rows, **more), folder / f"shop={shop}" / "rows.parquet")
    return str(folder)


def config(features: str, index: Path, **options: Any) -> BuildConfig:
    return BuildConfig(features=features, index=str(index), n_trees=4, **options)


def check_columns(index: str | Path, only: range = range(ROWS)) -> None:
    """Every value comes back, and every condition finds the one row."""
    opened = pool3.open(str(index))
    rows = opened.search(VECTORS[7], k=ROWS).to_pandas().set_index("image_id")
    assert sorted(rows.index) == [IDS[row] for row in only]
    for name, (_, _, where) in KINDS.items():
        for row in only:
            found = rows[name][IDS[row]]
            found = found.to_pydatetime() if hasattr(found, "to_pydatetime") else found
            found = found.to_pytimedelta() if hasattr(found, "to_pytimedelta") else found
            assert found == expected(name, row), (name, row)
        if where is not None:
            assert opened.search(VECTORS[0], k=5, where=where).ids == [IDS[7]], where
        assert len(opened.search(VECTORS[0], k=ROWS, distinct=name)) in (2, len(only))
    assert rows["shop"].to_dict() == {IDS[row]: "a b" if row < 40 else "c" for row in only}
    late = rows["late"].dropna().to_dict()
    assert late == {IDS[row]: row - 40 for row in only if row >= 40}


def check_printed(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", str(index), "--image-id", IDS[7], "-k", "1", "--columns", ",".join(KINDS)]
    assert main(command) == 0
    assert "2026-01-08 12:00:00.000001" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)["hits"][0]["columns"]
    assert values["price"] == "1.75"
    assert values["tiny"] == 197
    assert values["clock"] == "01:07:00"
    assert values["uid"] == str(UUIDS[7])


def test_columns_of_every_type(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, index = write_features(tmp_path / "features"), tmp_path / "index"
    report = build_index.run(spark, config(features, index, n_shards=2))
    columns = json.loads(report.to_json())["columns"]
    assert columns["carried"] == [*KINDS, "late", "shop"]
    assert list(columns["left_out"]) == list(LEFT_OUT)
    assert columns["cast"].keys() == {"coded", "half", "uid"}
    check_columns(index)
    check_printed(index, capsys)
    compact_index.run(spark, CompactIndexConfig(index=str(index)))
    check_columns(index)
    export_index(str(index), str(tmp_path / "export"), where="tiny < 220")
    check_columns(tmp_path / "export", range(30))


def test_columns_of_every_type_from_a_table_of_metadata(
    spark: SparkSession, tmp_path: Path
) -> None:
    whole = table_of(range(ROWS))
    pq.write_table(whole.select(["image_id", "features"]), _made(tmp_path / "plain" / "a.parquet"))
    labels = write_features(tmp_path / "labels")
    index = tmp_path / "index"
    options = {"metadata": labels, "leave_out": "text,raw"}
    report = build_index.run(spark, config(str(tmp_path / "plain"), index, **options))
    columns = report.details["columns"]
    assert columns["carried"] == [*[name for name in KINDS if name != "text"], "late", "shop"]
    assert columns["left_out"]["text"] == "--leave-out names it"
    # Without a choice the column comes with the next run.
    build_index.run(spark, config(str(tmp_path / "plain"), index, metadata=labels))
    check_columns(index)


def test_a_column_may_change_its_type(spark: SparkSession, tmp_path: Path) -> None:
    features = write_features(tmp_path / "features")
    index = tmp_path / "index"
    for values in (range(ROWS), [f"n{row}" for row in range(ROWS)], range(ROWS)):
        table = pa.table({"image_id": IDS, "n": pa.array(values)})
        labels = _made(tmp_path / "labels" / "a.parquet")
        pq.write_table(table, labels)
        build_index.run(spark, config(features, index, metadata=str(labels.parent), columns="n"))
        rows = pool3.open(str(index)).search(VECTORS[0], k=ROWS).to_pandas()
        assert rows.set_index("image_id")["n"].to_dict() == dict(zip(IDS, values, strict=True))
        assert list(rows.columns) == ["rank", "image_id", "distance", "n"]


def test_names_are_checked_before_anything_is_read(spark: SparkSession, tmp_path: Path) -> None:
    features, index = write_features(tmp_path / "features"), tmp_path / "index"
    with pytest.raises(UsageError, match="--columns, found 'labl'"):
        build_index.run(spark, config(features, index, columns="text,labl"))
    with pytest.raises(UsageError, match="commas"):
        config(features, index, leave_out="text,,labl")
    assert not index.exists()


def test_ids_of_any_type_are_text(spark: SparkSession, tmp_path: Path) -> None:
    keys = pa.array([key.bytes for key in UUIDS], pa.uuid())
    table = table_of(range(ROWS)).select(["features"]).append_column("image_id", keys)
    pq.write_table(table, _made(tmp_path / "features" / "a.parquet"))
    labels = pa.table({"image_id": keys, "n": range(ROWS)})
    pq.write_table(labels, _made(tmp_path / "labels" / "a.parquet"))
    index = tmp_path / "index"
    options = {"metadata": str(tmp_path / "labels")}
    build_index.run(spark, config(str(tmp_path / "features"), index, **options))
    rows = pool3.open(str(index)).search(VECTORS[7], k=1).to_pandas()
    assert rows[["image_id", "n"]].to_numpy().tolist() == [[str(UUIDS[7]), 7]]


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
