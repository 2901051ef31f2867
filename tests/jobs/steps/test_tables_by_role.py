"""Every sort of table in every role: its rows are read right, or it is refused by name.

`SORTS` makes the tables, `ROLES` reads them. Each table has the rows a, b, c and d; where the log
deletes some, no role may see them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.options.compact_features import CompactConfig
from jobs.steps.features.compact import require_table
from jobs.steps.index.plan import open_metadata
from pool3.errors import Pool3Error, StorageError, UsageError
from pool3.features.merge import merge_files
from pool3.features.table import FeatureTable, open_features, own_table
from pool3.features.vectors import SkippedRows, usable_rows, vector_dimension
from pool3.inputs.readers import read_share, share_schema
from pool3.inputs.table_files import Share, table_input
from pool3.inputs.types import carried_struct
from pool3.search.queries import QueryTable, labels_of, open_queries
from pool3.storage.tables import commit
from tests.delta_tables import (
    add_action,
    inline_vector,
    protocol,
    put_vector,
    stored_vector,
    write_log,
)
from tests.pool3.features.small_tables import put, row, write_part
from udfs.queries import table_queries
from udfs.tasks import summary

VECTORS = {"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0], "d": [7.0, 8.0]}
LABELS = {"a": "50%", "b": None, "c": "é / ü", "d": "x=y"}
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("features", pa.list_(pa.field("element", pa.float32()))),
        ("label", pa.string()),
    ]
)
ROWS = pa.table([list(VECTORS), list(VECTORS.values()), list(LABELS.values())], schema=SCHEMA)
UNLABELLED = ROWS.drop_columns(["label"])


# Sorts of tables -----------------------------------------------------------------------------


def ours(folder: Path) -> str:
    rows = [row(image_id, features=vector) for image_id, vector in VECTORS.items()]
    put(str(folder), [write_part(str(folder), rows)])
    return str(folder)


def ours_with_vector(folder: Path) -> str:
    uri = ours(folder)
    put_vector(folder, next(folder.glob("*.parquet")).name, stored_vector([1, 3]))
    return uri


def delta(folder: Path) -> str:
    write_deltalake(str(folder), ROWS)
    return str(folder)


def delta_with_status(folder: Path) -> str:
    status = pa.array(["published", "draft", "ok", None])
    write_deltalake(str(folder), ROWS.append_column("status", status))
    return str(folder)


def delta_by_hand(folder: Path, **options: Any) -> str:
    action = add_action(folder, ROWS, options.pop("path", "part-0.parquet"), **_of_file(options))
    return write_log(folder, SCHEMA, [action], **options)


def _of_file(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options.pop(name) for name in ("logged", "vector") if name in options}


def inline(folder: Path) -> str:
    return delta_by_hand(
        folder, vector=inline_vector([0, 2]), table_protocol=protocol("deletionVectors")
    )


def stored(folder: Path) -> str:
    path, logged = "day=50%25/part 0.parquet", "day=50%2525/part%200.parquet"
    features = protocol("deletionVectors", "timestampNtz")
    return delta_by_hand(
        folder, path=path, logged=logged, vector=stored_vector([1, 3]), table_protocol=features
    )


def all_deleted(folder: Path) -> str:
    return delta_by_hand(
        folder, vector=inline_vector([0, 1, 2, 3]), table_protocol=protocol("deletionVectors")
    )


def missing_vector(folder: Path) -> str:
    vector = stored_vector([1], missing=True)
    return delta_by_hand(folder, vector=vector, table_protocol=protocol("deletionVectors"))


def purged(folder: Path) -> str:
    return delta_by_hand(folder, table_protocol=protocol("deletionVectors", "v2Checkpoint"))


def delta_partitioned(folder: Path) -> str:
    write_deltalake(str(folder), ROWS, partition_by=["label"])
    return str(folder)


def delta_typed_partitions(folder: Path) -> str:
    days = pa.array([date(2026, 1, 2), None, date(2026, 1, 2), date(1999, 12, 31)])
    keys = ROWS.append_column("day", days).append_column("n", pa.array([1, 2, None, 4]))
    write_deltalake(str(folder), keys, partition_by=["day", "n"])
    return str(folder)


def renamed(mode: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        def metadata(name: str) -> dict[str, Any]:
            number = SCHEMA.names.index(name) + 1
            mapped = {"delta.columnMapping.physicalName": f"col-{name}"}
            return {"delta.columnMapping.id": number, **mapped}

        return delta_by_hand(
            folder,
            table_protocol=protocol("columnMapping"),
            configuration={"delta.columnMapping.mode": mode},
            field_metadata=metadata,
        )

    return write


def featured(feature: str) -> Callable[[Path], str]:
    return lambda folder: delta_by_hand(folder, table_protocol=protocol(feature))


def later_version(folder: Path) -> str:
    return delta_by_hand(folder, table_protocol={"minReaderVersion": 9, "minWriterVersion": 9})


def absolute_inside(folder: Path) -> str:
    return delta_by_hand(folder, logged=f"file://{folder}/part-0.parquet")


def shallow_clone(folder: Path) -> str:
    source = folder.parent / "source"
    add_action(source, ROWS)
    return delta_by_hand(folder, logged=f"file:{source}/part-0.parquet")


def clone_of_bucket(folder: Path) -> str:
    return delta_by_hand(folder, logged="s3://other/table/part-0.parquet")


def climbing(folder: Path) -> str:
    add_action(folder.parent / "source", ROWS)
    return delta_by_hand(folder, logged="../source/part-0.parquet")


def widened(folder: Path) -> str:
    narrow = ROWS.append_column("n", pa.array([1, 2, 3, 4], pa.int16()))
    action = add_action(folder, narrow)
    wide = SCHEMA.append(pa.field("n", pa.int64()))
    return write_log(folder, wide, [action], table_protocol=protocol("typeWidening"))


def later_columns(folder: Path) -> str:
    older, newer = ROWS.slice(1, 1).drop_columns(["label"]), ROWS.take([0, 2, 3])
    actions = [add_action(folder, older, "a.parquet"), add_action(folder, newer, "b.parquet")]
    return write_log(folder, SCHEMA, actions)


def without_files(folder: Path) -> str:
    DeltaTable.create(str(folder), SCHEMA)
    return str(folder)


def log_alone(folder: Path) -> str:
    (folder / "_delta_log").mkdir(parents=True)
    return str(folder)


def file_of_delta(folder: Path) -> str:
    delta(folder)
    return str(next(folder.glob("*.parquet")))


def iceberg(folder: Path) -> str:
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "v1.metadata.json").write_text("{}")
    (folder / "data").mkdir()
    pq.write_table(ROWS, folder / "data" / "part.parquet")
    return str(folder)


def parquet_folder(folder: Path) -> str:
    folder.mkdir()
    pq.write_table(ROWS.slice(0, 2), folder / "1.parquet")
    pq.write_table(ROWS.slice(2), folder / "2 %41.parquet")
    (folder / "_SUCCESS").write_text("")
    return str(folder)


def parquet_file(folder: Path) -> str:
    folder.mkdir()
    pq.write_table(ROWS, folder / "all 100%.parquet")
    return str(folder / "all 100%.parquet")


def hive_folder(folder: Path) -> str:
    names = ["50%25", "__HIVE_DEFAULT_PARTITION__", "%C3%A9 %2F %C3%BC", "x%3Dy"]
    for number, name in enumerate(names):
        (folder / f"label={name}").mkdir(parents=True)
        pq.write_table(UNLABELLED.slice(number, 1), folder / f"label={name}" / "part.parquet")
    return str(folder)


def uneven_hive(folder: Path) -> str:
    hive_folder(folder)
    pq.write_table(ROWS, folder / "loose.parquet")
    return str(folder)


def csv_file(folder: Path) -> str:
    folder.mkdir()
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "label"])
        writer.writerows([[image_id, label or ""] for image_id, label in LABELS.items()])
    return str(folder / "t.csv")


def csv_folder(folder: Path) -> str:
    csv_file(folder)
    return str(folder)


def json_file(folder: Path) -> str:
    folder.mkdir()
    lines = [f"{json.dumps(line)}\n" for line in ROWS.to_pylist()]
    (folder / "t.jsonl").write_text("".join(lines), encoding="utf-8")
    return str(folder / "t.jsonl")


def nothing(folder: Path) -> str:
    return str(folder / "nowhere")


# Roles ---------------------------------------------------------------------------------------

Rows = dict[str, Any]


def features(uri: str) -> Rows:
    table = open_features(uri)
    dimension, rows = vector_dimension(table), {}
    for file in table.files:
        for usable in usable_rows(
            table, file, dimension=dimension, metric="euclidean", skipped_rows=SkippedRows()
        ):
            rows.update(zip(usable.ids.to_pylist(), usable.vectors.tolist(), strict=True))
    return rows


def metadata(uri: str) -> Rows:
    return _read(open_metadata(uri), "label")


def _read(table: FeatureTable, column: str) -> Rows:
    rows: Rows = {}
    for file in table.files:
        for batch in table.read(file, ["image_id", column]):
            values = dict.fromkeys(batch.column("image_id").to_pylist())
            if column in batch.schema.names:
                ids = batch.column("image_id").to_pylist()
                values = dict(zip(ids, batch.column(column).to_pylist(), strict=True))
            assert not rows.keys() & values.keys()
            rows.update(values)
    return rows


def queries(uri: str) -> Rows:
    opened = open_queries(uri)
    assert isinstance(opened, QueryTable)
    dimension = vector_dimension(opened.table)
    files = [json.dumps(file.as_dict()) for file in opened.table.files]
    batches = iter([pa.RecordBatch.from_pydict({"file": files})])
    rows = {}
    for batch in table_queries(batches, opened, dimension, "euclidean"):
        for query in batch.to_pylist():
            assert query["error"] is None
            rows[query["query_id"]] = np.frombuffer(query["vector"], "<f4").tolist()
    return rows


def labels(uri: str) -> Rows:
    return labels_of(uri, "label")


def inputs(uri: str) -> Rows:
    table = table_input(uri, glob=None, first_number=0)
    schema = table.schema or share_schema(table.shares[0])
    rows: Rows = {}
    positions: list[int] = []
    for sent in table.shares:
        share = Share.from_json(sent.to_json())
        for first, batch in read_share(share, schema, pa.schema(carried_struct(schema))):
            positions += range(first, first + batch.num_rows)
            names = batch.column("image_id").to_pylist()
            has_label = "label" in batch.schema.names
            values = batch.column("label").to_pylist() if has_label else [None] * len(names)
            rows.update(zip(names, values, strict=True))
    assert len(positions) == len(set(positions)) == len(rows)
    return rows


def compaction(uri: str) -> Rows:
    table = require_table(CompactConfig(table=uri))
    merged = merge_files(
        table, table.files, without=set(), schema=table.log_schema(), run_id="r", number=0
    )
    assert merged.file is not None
    commit(
        uri,
        schema=table.log_schema(),
        added=[merged.file],
        removed=table.files,
        read_version=table.version,
        run_id="r",
        custom_metadata={},
    )
    return features(uri)


def extraction(uri: str) -> Rows:
    table = own_table(uri)
    return {} if table is None else _read(table, "features")


ROLES: dict[str, Callable[[str], Rows]] = {
    "features": features,
    "metadata": metadata,
    "queries": queries,
    "labels": labels,
    "inputs": inputs,
    "compaction": compaction,
    "extraction": extraction,
}
_VECTOR_ROLES = ("features", "queries", "compaction", "extraction")


# The matrix ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sort:
    """A sort of table: how it is made, and what each role makes of it.

    `ids` are the rows that are there; `refused` is what the error of all roles names, and
    `refused_by` what the error of single roles does.
    """

    make: Callable[[Path], str]
    ids: str = "abcd"
    labelled: bool = True
    refused: str | None = None
    refused_by: dict[str, str] | None = None
    error: type[Pool3Error] = UsageError


NOT_OURS = {"compaction": "extract-features made", "extraction": "extract-features made"}
NO_TABLE = {"compaction": "found none", "extraction": "nothing"}
A_FILE = {"compaction": "found the file", "extraction": "found the file"}
NO_LABELS = {"labels": "label"}
NO_VECTORS = {"features": "features", "queries": "features", "labels": "features"}
WRITES = {"compaction": "REORG TABLE .*PURGE", "extraction": "REORG TABLE .*PURGE"}

SORTS = {
    "our own": Sort(ours, labelled=False, refused_by=NO_LABELS),
    "our own, with a deletion vector": Sort(
        ours_with_vector, ids="ac", labelled=False, refused_by={**NO_LABELS, **WRITES}
    ),
    "delta": Sort(delta, refused_by=NOT_OURS),
    "delta, status of its own": Sort(delta_with_status, refused_by=NOT_OURS),
    "inline deletion vector": Sort(inline, ids="bd", refused_by=NOT_OURS),
    "stored deletion vector": Sort(stored, ids="ac", refused_by=NOT_OURS),
    "all rows deleted": Sort(
        all_deleted, ids="", refused_by={**NOT_OURS, "features": "none", "queries": "none"}
    ),
    "missing deletion vector": Sort(
        missing_vector, refused="deletion vectors .* cannot be read", error=StorageError
    ),
    "deletion vectors, purged": Sort(purged, refused_by=NOT_OURS),
    "delta partitions with escapes": Sort(delta_partitioned, refused_by=NOT_OURS),
    "delta partitions with types": Sort(delta_typed_partitions, refused_by=NOT_OURS),
    "column mapping by name": Sort(renamed("name"), refused="columnMapping"),
    "column mapping by id": Sort(renamed("id"), refused="columnMapping"),
    "an unknown reader feature": Sort(featured("fancyFeature"), refused="fancyFeature"),
    "variants": Sort(featured("variantType"), refused="variantType"),
    "managed by a catalog": Sort(featured("catalogManaged"), refused="catalog"),
    "a later reader version": Sort(later_version, refused="version 9"),
    "absolute paths, inside": Sort(absolute_inside, refused_by=NOT_OURS),
    "shallow clone": Sort(shallow_clone, refused="shallow clone"),
    "shallow clone of a bucket": Sort(clone_of_bucket, refused="shallow clone"),
    "paths that climb": Sort(climbing, refused=r"\.\./source"),
    "widened types": Sort(widened, refused_by=NOT_OURS),
    "columns that begin later": Sort(later_columns, refused_by=NOT_OURS),
    "delta without files": Sort(without_files, refused="without files", refused_by=NOT_OURS),
    "a log without commits": Sort(log_alone, refused="found", refused_by=NO_TABLE),
    "a file of a delta table": Sort(file_of_delta, refused="Delta", refused_by=A_FILE),
    "iceberg": Sort(iceberg, refused="Iceberg", refused_by=NO_TABLE),
    "folder of parquet": Sort(parquet_folder, refused_by=NO_TABLE),
    "parquet file": Sort(parquet_file, refused_by=A_FILE),
    "hive partitions": Sort(hive_folder, refused_by=NO_TABLE),
    "uneven hive partitions": Sort(uneven_hive, refused="NAME=VALUE", refused_by=NO_TABLE),
    "csv file": Sort(csv_file, refused_by={**NO_VECTORS, **A_FILE}),
    "folder of csv": Sort(csv_folder, refused_by={**NO_VECTORS, **NO_TABLE}),
    "json lines": Sort(json_file, refused_by=A_FILE),
    "nothing": Sort(nothing, refused="found n", refused_by=NO_TABLE),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("sort", SORTS)
def test_every_table_in_every_role_is_read_right_or_refused(
    tmp_path: Path, sort: str, role: str
) -> None:
    expected = SORTS[sort]
    uri = expected.make(tmp_path / "table ä#")
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    refused = (expected.refused_by or {}).get(role, expected.refused)
    if refused == "nothing":
        assert ROLES[role](uri) == {}
    elif refused is not None:
        with pytest.raises(expected.error, match=refused) as error:
            ROLES[role](uri)
        assert str(error.value).startswith("expected") or expected.error is StorageError
        assert "; " in str(error.value)  # the remedy
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == files
    else:
        values = VECTORS if role in _VECTOR_ROLES else LABELS
        given = {key: values[key] for key in expected.ids}
        if not expected.labelled and role not in _VECTOR_ROLES:
            given = dict.fromkeys(expected.ids)
        assert ROLES[role](uri) == given


def test_a_partition_has_the_type_of_the_log(tmp_path: Path) -> None:
    table = open_metadata(delta_typed_partitions(tmp_path / "t"))
    assert _read(table, "day") == {
        "a": date(2026, 1, 2), "b": None, "c": date(2026, 1, 2), "d": date(1999, 12, 31)
    }  # fmt: skip
    assert _read(table, "n") == {"a": 1, "b": 2, "c": None, "d": 4}


def test_an_older_file_is_read_in_the_wider_type_of_the_log(tmp_path: Path) -> None:
    table = open_metadata(widened(tmp_path / "t"))
    batches = [batch for file in table.files for batch in table.read(file, ["n"])]
    assert [batch.schema.field("n").type for batch in batches] == [pa.int64()]


def test_tables_are_described_to_tasks_whole(tmp_path: Path) -> None:
    for make in (stored, delta_partitioned):
        for file in open_features(make(tmp_path / make.__name__)).files:
            sent = json.loads(summary(file.as_dict()).column(0)[0].as_py())
            assert type(file).from_dict(sent) == file
