"""New metadata of a shard: the values of a table, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pool3 import storage
from pool3.index.format.entries import ShardEntry
from tests.pool3.features.small_tables import FEATURE_SCHEMA, put, row, write_part
from tests.udfs.arrow import Broadcast, file_batches, grouped, rows, summaries
from tests.udfs.conftest import LABELS, URIS
from tests.udfs.small_data import SHARDS, SmallIndex
from udfs.metadata import list_carried, metadata_schema, refresh_shard

META = pa.struct([("label", pa.string()), ("n", pa.int32()), ("nested", pa.list_(pa.int32()))])


def test_carried_columns_of_files_old_and_new(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    with_meta = FEATURE_SCHEMA.append(pa.field("meta", META))
    meta = {"label": "x", "n": 7, "nested": [1]}
    files = [
        write_part(uri, [row("b", meta=meta), row("a", meta=None, width=3)], with_meta),
        write_part(uri, [row("c")]),  # before the table had the column
    ]
    table = put(uri, files, schema=with_meta)
    carried = pa.schema(
        [
            ("meta.label", pa.string()),
            ("meta.n", pa.int32()),
            ("width", pa.int32()),
            ("uri", pa.string()),
        ]
    )
    result = rows(list_carried(table, carried), file_batches(table.files), metadata_schema(carried))
    assert sorted(list(entry.values()) for entry in result) == [
        ["a", None, None, 3, "/photos/a"],
        ["b", "x", 7, None, "/photos/b"],
        ["c", None, None, None, "/photos/c"],
    ]


CARRIED = pa.schema([("label", pa.string()), ("score", pa.float64())])


def entries(index: SmallIndex) -> dict[int, ShardEntry]:
    shards = grouped(index.directory).value.snapshot.manifest.shards
    return {shard.number: shard for shard in shards}


def refreshed(
    index: SmallIndex, number: int, values: dict[int, tuple[str | None, float | None]], size: int
) -> pa.Table | None:
    """Give some rows of a shard new values; returns the new metadata of all of its rows."""
    places = sorted(values)
    ids = [index.ids[SHARDS * place + number] for place in places]
    batch = pa.RecordBatch.from_pydict(
        {
            "image_id": pa.array(ids, pa.string()),
            "_shard": pa.array([number] * len(places), pa.int32()),
            "_row": pa.array(places, pa.int32()),
            "_c0": pa.array([values[place][0] for place in places], pa.string()),
            "_c1": pa.array([values[place][1] for place in places], pa.float64()),
        }
    )
    batches = [batch.slice(0, 0), *(batch.slice(at, size) for at in range(0, len(places), size))]
    function = refresh_shard(str(index.directory), Broadcast(entries(index)), CARRIED)
    tasks = summaries(function, batches)
    if not tasks:
        return None
    assert [task["number"] for task in tasks] == [number]
    file = tasks[0]["file"]
    data = storage.fetch(storage.join(str(index.directory), file["path"]))
    assert len(data) == file["bytes"]
    return pa.ipc.open_file(data).read_all()


def test_rows_get_their_new_values_and_the_others_stay(euclidean_index: SmallIndex) -> None:
    values = {3: ("new", 0.5), 4: (None, None), 50: ("label 0", 2.0)}
    table = refreshed(euclidean_index, 2, values, size=2)
    assert table is not None
    own_labels = LABELS[2::SHARDS]
    scores: list[float | None] = [None] * len(own_labels)
    for place, (label, score) in values.items():
        own_labels[place], scores[place] = label, score
    assert table["label"].to_pylist() == own_labels
    assert table["score"].to_pylist() == scores
    assert table["uri"].to_pylist() == URIS[2::SHARDS]


def test_without_a_difference_nothing_is_stored(euclidean_index: SmallIndex) -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "_shard": pa.array([1, 1], pa.int32()),
            "_row": pa.array([0, 9], pa.int32()),
            "_c0": pa.array([LABELS[1], LABELS[1 + 9 * SHARDS]], pa.string()),
        }
    )
    stored = set(euclidean_index.directory.rglob("metadata/**/*"))
    carried = pa.schema([CARRIED.field("label")])
    function = refresh_shard(
        str(euclidean_index.directory), Broadcast(entries(euclidean_index)), carried
    )
    assert summaries(function, [batch]) == []
    assert summaries(function, [batch.slice(0, 0)]) == []
    assert summaries(function, []) == []
    assert set(euclidean_index.directory.rglob("metadata/**/*")) == stored
    other = batch.set_column(2, "_c0", pc.utf8_upper(batch.column("_c0")))
    assert len(summaries(function, [other])) == 1
