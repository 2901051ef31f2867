"""Every kind of input becomes the same input rows, on real Spark, without being collected."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.steps.extract.inputs import Inventory, inventory
from pool3.errors import UsageError
from pool3.inputs import InputOptions

COLUMNS = ["image_id", "uri", "size", "etag", "modified_at", "refused", "position"]
NESTED = pa.table(
    {
        "uri": ["/d/a.jpg", "/d/b.jpg", "/etc/passwd", None],
        "id": pa.array([1, 2, 3, 4], pa.int32()),
        "label": pa.array(["tram", "dog", "tram", None]).dictionary_encode(),
        "width": pa.array([100, 500, 900, None], pa.uint16()),
        "tags": [["a", "b"], [], None, [None]],
        "shot": [{"at": [{"x": 1.5}], "by": "me"}, None, {"at": [], "by": None}, {"by": ""}],
        "seen": pa.array([1_000, 2_000, 3_000, None], pa.timestamp("ms", "Europe/Berlin")),
        "local": pa.array([1_000, 2_000, 3_000, None], pa.timestamp("ns")),
        "facts": pa.array([[("k", 1)], [], None, None], pa.map_(pa.string(), pa.int64())),
    }
)  # fmt: skip


def rows_of(result: Inventory) -> list[dict[str, Any]]:
    """Collect the few rows of a test, in order of their positions."""
    return sorted(result.frame.toArrow().to_pylist(), key=lambda row: row["position"])


def input_options(table: Path | str, **options: Any) -> InputOptions:
    given = {"uri_column": "uri", "id_column": "id", "allow_uri": ("/d",)}
    return InputOptions(**{"inputs": (str(table),), **given, **options})


def test_folders(spark: SparkSession, tmp_path: Path) -> None:
    names = ["_MG_0001.JPG", "100%.jpg", "a#b.jpg", "line\nfeed.jpg", "q?*.jpg", "sub/deep.jpg"]
    for name in [*names, "_SUCCESS", ".hidden.jpg"]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    base = tmp_path / "photos"
    options = InputOptions(inputs=(str(base),), id_from=f"relative:{base}")
    result = inventory(spark, options, staging=str(tmp_path / "staging"))
    assert result.frame.columns == COLUMNS
    assert result.meta is None
    assert result.set_aside == {"dot_name": 1, "bookkeeping": 1}
    rows = rows_of(result)
    assert sorted(row["image_id"] for row in rows) == sorted(names)
    assert all(f"{base}/{row['image_id']}" == row["uri"] for row in rows)
    assert all(row["size"] == len(row["image_id"]) for row in rows)
    assert [row["position"] for row in rows] == list(range(len(rows)))


@pytest.fixture(params=["parquet", "delta", "catalog"])
def nested(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> InputOptions:
    """The same rows as a Parquet file, as a Delta table and as a table of the catalog."""
    if request.param == "delta":
        write_deltalake(str(tmp_path / "t"), NESTED)
        return input_options(tmp_path / "t")
    # Spark reads no nanoseconds.
    unit = "us" if request.param == "catalog" else None
    pq.write_table(NESTED, tmp_path / "t.parquet", row_group_size=3, coerce_timestamps=unit)
    if request.param == "parquet":
        return input_options(tmp_path / "t.parquet")
    spark.read.parquet(str(tmp_path / "t.parquet")).createOrReplaceTempView("nested_inputs")
    return input_options("", inputs=(), input_table="nested_inputs")


def test_every_other_column_is_carried(spark: SparkSession, nested: InputOptions) -> None:
    result = inventory(spark, nested, staging="/nowhere")
    assert result.frame.columns == [*COLUMNS, "meta"]
    rows = rows_of(result)
    assert [row["image_id"] for row in rows] == ["1", "2", "3", "4"]
    refused = ["not below a prefix of --allow-uri", "no uri"]
    assert [row["refused"] for row in rows] == [None, None, *refused]
    expected = NESTED.drop_columns(["uri", "id", "local"]).to_pylist()
    assert [{**row["meta"], "local": None} for row in rows] == [
        {**row, "local": None} for row in expected
    ]
    local = [row["meta"]["local"] for row in rows]
    assert [value and value.replace(tzinfo=None).microsecond for value in local] == [1, 2, 3, None]
    assert result.meta is not None
    names = [field.name for field in result.meta]
    assert names == [name for name in NESTED.column_names if name not in {"uri", "id"}]
    assert result.meta.field("shot").type.field("at").type == pa.list_(
        pa.field("element", pa.struct([("x", pa.float64())]))
    )


CONDITIONS = {
    "width > 200 AND label = 'tram' OR array_contains(tags, 'b')": ["1", "3"],
    "shot.by = 'me' OR seen > timestamp '1970-01-01 00:00:02Z'": ["1", "3"],
    "width > 9999": [],
}


def test_where_is_a_condition_over_the_columns_of_the_input(
    spark: SparkSession, nested: InputOptions
) -> None:
    every = {row["image_id"]: row for row in rows_of(inventory(spark, nested, staging="/nowhere"))}
    for where, ids in CONDITIONS.items():
        rows = rows_of(inventory(spark, replace(nested, where=where), staging="/nowhere"))
        assert [row["image_id"] for row in rows] == ids
        if nested.input_table is None:
            assert rows == [every[image_id] for image_id in ids]
    with pytest.raises(UsageError, match="nosuch"):
        inventory(spark, replace(nested, where="nosuch = 1"), staging="/nowhere")


def test_bytes_in_a_table(spark: SparkSession, tmp_path: Path) -> None:
    pictures = [b"one", None, b"", bytes(3 << 20)]
    table = pa.table({"id": list("abcd"), "bytes": pictures, "label": list("wxyz")})
    pq.write_table(table, tmp_path / "t.parquet")
    options = {"uri_column": None, "allow_uri": (), "content_column": "bytes"}
    for where in (None, "label <> 'w'"):
        result = inventory(
            spark, input_options(tmp_path / "t.parquet", where=where, **options), staging="/x"
        )
        assert result.frame.columns == [*COLUMNS, "content_sha256", "meta"]
        rows = rows_of(result)
        expected = [b"one", b"", b"", bytes(3 << 20)][where is not None :]
        assert [row["size"] for row in rows] == [len(value) for value in expected]
        assert [row["content_sha256"] for row in rows] == [
            hashlib.sha256(value).hexdigest() for value in expected
        ]
        assert {row["uri"] for row in rows} == {str(tmp_path / "t.parquet")}
        assert result.contents is not None
        with_bytes = result.contents.of(result.frame.where("image_id <> 'b'"))
        assert {row.image_id: bytes(row.content) for row in with_bytes.collect()} == {
            row["image_id"]: value
            for row, value in zip(rows, expected, strict=True)
            if row["image_id"] != "b"
        }


def test_bytes_in_a_query_are_matched_by_id_and_digest(spark: SparkSession) -> None:
    spark.sql(
        "SELECT id, bytes FROM VALUES ('a', X'0102'), ('b', X'03'), ('b', X'04'), ('5', NULL) "
        "AS pictures (id, bytes)"
    ).createOrReplaceTempView("picture_bytes")
    options = InputOptions(input_table="picture_bytes", content_column="bytes", id_column="id")
    result = inventory(spark, options, staging="/nowhere")
    assert result.contents is not None
    digest = hashlib.sha256(b"\x04").hexdigest()
    wanted = result.frame.where(f"image_id <> 'b' OR content_sha256 = '{digest}'")
    rows = result.contents.of(wanted).collect()
    result.contents.unpersist()
    assert {row.image_id: bytes(row.content) for row in rows} == {
        "a": b"\1\2", "b": b"\4", "5": b""
    }  # fmt: skip


def test_several_tables_are_one_input(spark: SparkSession, tmp_path: Path) -> None:
    table = NESTED.select(["uri", "id", "tags"])
    pq.write_table(table, tmp_path / "b.parquet")
    write_deltalake(str(tmp_path / "a"), table)
    both = (str(tmp_path / "b.parquet"), str(tmp_path / "a"))
    rows = rows_of(inventory(spark, input_options("", inputs=both), staging="/x"))
    assert [row["image_id"] for row in rows] == ["1", "2", "3", "4"] * 2
    assert rows[3]["uri"] == both[0]
    assert rows[7]["uri"] == both[1]
    pq.write_table(table.drop_columns(["tags"]), tmp_path / "b.parquet")
    with pytest.raises(UsageError, match="same columns"):
        inventory(spark, input_options("", inputs=both), staging="/x")


def test_missing_tables_and_unsupported_types_are_errors(spark: SparkSession) -> None:
    with pytest.raises(UsageError, match="nosuch_table"):
        inventory(spark, input_options("", inputs=(), input_table="nosuch_table"), staging="/x")
    spark.sql("SELECT 'u' uri, 'i' id, interval 1 day gap").createOrReplaceTempView("with_interval")
    with pytest.raises(UsageError, match="gap"):
        inventory(spark, input_options("", inputs=(), input_table="with_interval"), staging="/x")
    spark.sql("SELECT 'u' uri, 'i' id, interval 1 year gap").createOrReplaceTempView("with_year")
    with pytest.raises(UsageError, match="gap"):
        inventory(spark, input_options("", inputs=(), input_table="with_year"), staging="/x")


def test_200_000_rows_are_counted_and_not_collected(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    for number in range(4):
        uris = [f"s3://lake/photos/{number}/{row:06d}.jpg" for row in range(50_000)]
        pq.write_table(pa.table({"uri": uris, "n": range(50_000)}), folder / f"{number}.parquet")
    options = InputOptions(inputs=(str(folder),), uri_column="uri", allow_uri=("s3://lake/photos",))

    def collected(*arguments: object) -> None:
        pytest.fail("rows were collected on the driver")

    for name in ("collect", "toArrow", "toPandas", "toLocalIterator"):
        monkeypatch.setattr(type(spark.range(1)), name, collected)
    result = inventory(spark, options, staging="/nowhere")
    monkeypatch.undo()
    assert result.frame.rdd.getNumPartitions() == 4
    (counts,) = result.frame.agg(
        F.count("*"), F.count("refused"), F.count_distinct("position")
    ).collect()
    assert tuple(counts) == (200_000, 0, 200_000)
