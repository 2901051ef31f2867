"""Which columns of a table an index carries, in which types, and why not the others."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pool3.errors import UsageError
from pool3.features.column_types import common_type, from_spark, spark_type, to_spark
from pool3.features.column_values import carried_rows, columns_to_read
from pool3.features.columns import CarriedColumns, ColumnChoice, carried_columns, require_named
from pool3.features.schema import feature_schema
from pool3.features.table import FeatureTable, open_features
from tests.pool3.features.small_tables import put, row, write_part

KEYS = {"image_id": ["a", "b"], "features": [[1.0, 0.0], [0.0, 1.0]]}
UUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
NOON = dt.datetime(2026, 1, 2, 12, 0, 0, 5)
TOKYO = pa.timestamp("us", "Asia/Tokyo")

#: Values of one column of each kind, and what an index has in their place.
VALUES = {
    "text": (pa.array(["x", None]), ["x", None]),
    "large": (pa.array(["x", None], pa.large_string()), ["x", None]),
    "dictionary": (pa.array(["x", None]).dictionary_encode(), ["x", None]),
    "small": (pa.array([-5, None], pa.int8()), [-5, None]),
    "unsigned": (pa.array([2**32 - 1, None], pa.uint32()), [2**32 - 1, None]),
    "huge": (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
    "half": (pa.array([1.5, None], pa.float16()), [1.5, None]),
    "truth": (pa.array([True, None]), [True, None]),
    "day": (pa.array([NOON.date(), None]), [NOON.date(), None]),
    "clock": (pa.array([dt.time(1, 2, 3), None]), [dt.time(1, 2, 3), None]),
    "moment": (pa.array([NOON, None], pa.timestamp("us")), [NOON, None]),
    "instant": (
        pa.array([NOON.replace(tzinfo=dt.UTC), None], TOKYO),
        [NOON.replace(tzinfo=dt.UTC), None],
    ),
    "last": (
        pa.array([dt.datetime(9999, 12, 31), None], pa.timestamp("us")),
        [dt.datetime(9999, 12, 31), None],
    ),
    "span": (pa.array([dt.timedelta(hours=3), None]), [dt.timedelta(hours=3), None]),
    "price": (
        pa.array([decimal.Decimal("19.90"), None], pa.decimal128(7, 2)),
        [decimal.Decimal("19.90"), None],
    ),
    "wide": (
        pa.array([decimal.Decimal("1e40"), None], pa.decimal256(50, 2)),
        [decimal.Decimal("1e40"), None],
    ),
    "key": (pa.array([UUID.bytes, None], pa.uuid()), [str(UUID), None]),
}
LEFT_OUT = {
    "nothing": pa.nulls(2),
    "tensor": pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), (2,)),
        pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2)),
    ),
    "tags": pa.array([["x"], []]),
    "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
    "raw": pa.array([b"x", None]),
}


def write(folder: Path, name: str = "a", **columns: pa.Array) -> FeatureTable:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**KEYS, **columns}), folder / f"{name}.parquet")
    return open_features(str(folder))


def carried(table: FeatureTable, columns: CarriedColumns) -> dict[str, list[object]]:
    """Return the values that an index gets, having passed through Spark's types."""
    names = ["image_id", *columns_to_read(columns.schema, foreign=True)]
    rows: dict[str, list[object]] = {name: [] for name in columns.schema.names}
    for file in table.files:
        for batch in table.read(file, names):
            got = carried_rows(batch, columns.schema)
            for item, values in zip(columns.schema, got.columns, strict=True):
                passed = to_spark(values)
                assert passed.type == spark_type(item.type)
                back = from_spark(passed, item.type)
                back.validate(full=True)
                rows[item.name] += back.to_pylist()
    return rows


def test_each_kind_is_carried_or_named(tmp_path: Path) -> None:
    given = {name: values for name, (values, _) in VALUES.items()}
    table = write(tmp_path, **given, **LEFT_OUT)
    columns = carried_columns(table)
    assert carried(table, columns) == {name: wanted for name, (_, wanted) in VALUES.items()}
    assert columns.left_out == {
        "nothing": "all values are null, of no type",
        "tensor": "tensors are not carried (arrow.fixed_shape_tensor)",
        "tags": f"nested values are not carried ({table.schema().field('tags').type})",
        "map": f"nested values are not carried ({table.schema().field('map').type})",
        "raw": "bytes are carried only where --columns names them",
    }
    assert columns.cast["dictionary"].endswith(" as string")
    assert columns.cast["half"] == "halffloat as float"
    assert columns.cast["key"].endswith("uuid> as string")
    assert columns.cast.keys() == {"dictionary", "half", "key"}
    assert columns.schema.field("instant").type == TOKYO


def test_files_are_read_together(tmp_path: Path) -> None:
    write(tmp_path, "a", n=pa.array([1, 2], pa.int16()), early=pa.array(["x", "y"]),
          later=pa.nulls(2), mixed=pa.array([1, 2]),
          moment=pa.array([NOON, None], pa.timestamp("ns")),
          zone=pa.array([NOON, None], TOKYO))  # fmt: skip
    table = write(tmp_path, "b", n=pa.array([2**40, 2**40]),
                  later=pa.array([7, 8]), mixed=pa.array(["x", "y"]),
                  moment=pa.array([dt.datetime(9999, 12, 31), None], pa.timestamp("us")),
                  zone=pa.array([NOON, None], pa.timestamp("us", "UTC")))  # fmt: skip
    columns = carried_columns(table)
    zoned = NOON.replace(tzinfo=dt.UTC)
    assert carried(table, columns) == {
        "n": [1, 2, 2**40, 2**40],
        "early": ["x", "y", None, None],
        "later": [None, None, 7, 8],
        "moment": [NOON, None, dt.datetime(9999, 12, 31), None],
        "zone": [zoned, None, zoned, None],
    }
    assert columns.left_out == {
        "mixed": "its types have no common one: int64 in a.parquet, string in b.parquet"
    }
    assert columns.cast["n"] == "int16, int64 as int64"
    assert columns.cast["moment"] == "timestamp[ns], timestamp[us] as timestamp[us]"


def test_fields_of_structs_are_columns(tmp_path: Path) -> None:
    shop = pa.array([{"name": "x", "at": {"city": "Oslo", "ids": [1]}}, None])
    table = write(tmp_path, shop=shop, **{"dotted.name": pa.array([1, 2])})
    columns = carried_columns(table)
    assert carried(table, columns) == {
        "shop.name": ["x", None],
        "shop.at.city": ["Oslo", None],
        "dotted.name": [1, 2],
    }
    assert list(columns.left_out) == ["shop.at.ids"]


def test_columns_of_partitions_are_carried(tmp_path: Path) -> None:
    write(tmp_path / "year=2025" / "label=50%25")
    write(tmp_path / "year=2026" / "label=__HIVE_DEFAULT_PARTITION__")
    table = open_features(str(tmp_path))
    columns = carried_columns(table)
    assert carried(table, columns) == {
        "year": [2025, 2025, 2026, 2026],
        "label": ["50%", "50%", None, None],
    }


def test_a_name_that_a_file_has_twice_is_left_out(tmp_path: Path) -> None:
    arrays = [*map(pa.array, KEYS.values()), pa.array([1, 2]), pa.array(["x", "y"])]
    pq.write_table(pa.table(arrays, names=[*KEYS, "n", "n"]), tmp_path / "a.parquet")
    columns = carried_columns(open_features(str(tmp_path)))
    assert columns.schema.names == []
    assert columns.left_out == {"n": "2 columns have this name in a.parquet"}


def test_choices(tmp_path: Path) -> None:
    table = write(tmp_path, a=pa.array([1, 2]), b=pa.array([1, 2]), raw=pa.array([b"x", None]))
    only = carried_columns(table, ColumnChoice(only=("a", "raw")))
    assert carried(table, only) == {"a": [1, 2], "raw": [b"x", None]}
    assert only.left_out == {"b": "--columns does not name it"}
    less = carried_columns(table, ColumnChoice(leave_out=("b",)))
    assert less.schema.names == ["a"]
    assert less.left_out["b"] == "--leave-out names it"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (ColumnChoice(only=("c",)), "--columns, found 'c'; the columns are a, tags, nothing"),
        (ColumnChoice(leave_out=("c",)), "--leave-out, found 'c'"),
        (ColumnChoice(only=("tags",)), "'tags': nested values are not carried"),
        (ColumnChoice(only=("a",), leave_out=("a",)), "'a': --leave-out names it"),
        (ColumnChoice(only=("image_id",)), "found 'image_id'"),
    ],
)
def test_names_are_checked(tmp_path: Path, choice: ColumnChoice, message: str) -> None:
    table = write(tmp_path, a=pa.array([1, 2]), tags=pa.array([["x"], []]), nothing=pa.nulls(2))
    with pytest.raises(UsageError, match=message):
        require_named(choice, [carried_columns(table, choice)])


def test_columns_of_a_second_table_replace_namesakes() -> None:
    first = CarriedColumns(
        pa.schema([("a", pa.int8()), ("b", pa.int8())]), {"a": "x as int8"}, {"c": "nested"}
    )
    second = CarriedColumns(pa.schema([("a", pa.string()), ("c", pa.string())]), {}, {"b": "bytes"})
    both = second.over(first)
    assert both.report() == {"carried": ["b", "a", "c"], "cast": {}, "left_out": {}}
    assert both.schema.field("a").type == pa.string()


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (pa.int64(), pa.uint64(), pa.decimal128(20, 0)),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.decimal128(5, 2), pa.decimal128(7, 1), pa.decimal128(8, 2)),
        (pa.time32("s"), pa.time64("ns"), pa.time64("ns")),
        (pa.timestamp("s"), pa.timestamp("s", "UTC"), None),
        (pa.date32(), pa.timestamp("us"), None),
        (pa.string(), pa.binary(), None),
        (pa.bool_(), pa.int8(), None),
    ],
)
def test_common_types(
    first: pa.DataType, second: pa.DataType, together: pa.DataType | None
) -> None:
    assert common_type(first, second) == together
    assert common_type(second, first) == together


def test_of_our_own_table_come_the_picture_and_the_columns_of_the_input(tmp_path: Path) -> None:
    schema = feature_schema(pa.struct({"label": pa.string(), "a.b": pa.int32()}))
    uri = str(tmp_path)
    meta = {"label": "tram", "a.b": 7}
    table = put(uri, [write_part(uri, [row("a", width=3, meta=meta)], schema)], schema=schema)
    columns = carried_columns(table).schema
    picture = ["uri", "width", "height", "format", "content_sha256", "thumbnail"]
    assert sorted(columns.names) == sorted([*picture, "meta.a.b", "meta.label"])
    names = columns_to_read(columns, foreign=False)
    assert sorted(names) == sorted([*picture, "meta"])
    (batch,) = table.read(table.files[0], ["image_id", *names])
    (values,) = carried_rows(batch, columns).to_pylist()
    assert (values["width"], values["meta.label"], values["meta.a.b"]) == (3, "tram", 7)


def test_a_dotted_name_of_a_foreign_table_is_a_column_or_a_field() -> None:
    schema = pa.schema([("a.b", pa.int32()), ("meta.c", pa.string())])
    assert columns_to_read(schema, foreign=True) == ["a.b", "a", "meta.c", "meta"]
