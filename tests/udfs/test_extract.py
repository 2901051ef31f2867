"""The task of an extraction: one row per picture of its partition, stored as one file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pool3.engines import cache, loads
from pool3.extract.reuse import ExistingContent
from pool3.extract.task_summary import TaskSummary
from tests.jobs.colour_model import colour_graph
from tests.pool3.features.small_tables import put, row, write_part
from tests.udfs.arrow import in_batches, run, summaries
from udfs import extract
from udfs.extract import ExtractSettings, extract_partition, gpu_addresses, picture_inputs


class Graph:
    """A broadcast of the graph, which is dropped once it was read."""

    def __init__(self) -> None:
        self._value = colour_graph()
        self.reads = 0

    @property
    def value(self) -> bytes:
        self.reads += 1
        return self._value


class Existing:
    """A broadcast of where a table stores features."""

    def __init__(self, value: ExistingContent | None = None) -> None:
        self.value = value


COLOURS = {f"{number}.png": (number * 20, 7, 255 - number) for number in range(9)}


@pytest.fixture
def plan(tmp_path: Path) -> list[dict[str, Any]]:
    """Nine pictures and two failures, with a column that is no input."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 10), colour).save(tmp_path / name)
    (tmp_path / "empty.png").write_bytes(b"")
    names = [*COLOURS, "empty.png", "missing.png"]
    return [
        {"image_id": name, "uri": str(tmp_path / name), "size": None, "action": "new"}
        for name in names
    ]


SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("size", pa.int64()),
        ("action", pa.string()),
    ]
)


def test_each_picture_is_one_row_of_the_stored_file(
    task_settings: ExtractSettings, plan: list[dict[str, Any]]
) -> None:
    graph = Graph()
    function = extract_partition(task_settings, graph, None, Existing())  # type: ignore[arg-type]
    (values,) = summaries(function, in_batches(plan, 4, SCHEMA))
    task = TaskSummary.from_dict(values)
    assert (task.ok, task.failed, task.errors) == (9, 2, {"empty": 1, "not_found": 1})
    assert task.file is not None
    stored = pq.read_table(f"{task_settings.table_uri}/{task.file.path}").to_pylist()
    features = {entry["image_id"]: entry["features"] for entry in stored}
    assert len(stored) == len(features) == 11
    for name, colour in COLOURS.items():
        assert features.pop(name) == pytest.approx(colour, abs=1e-3)
    assert features == {"empty.png": None, "missing.png": None}
    assert {entry["run_id"] for entry in stored} == {"run"}
    assert (task.file.rows, task.file.smallest, task.file.largest) == (11, "0.png", "missing.png")


def test_the_graph_is_read_and_dropped_by_the_first_task_only(
    task_settings: ExtractSettings, plan: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_cache", cache._Cache())
    settings = replace(task_settings, table_uri=None)
    graph, before = Graph(), loads()
    function = extract_partition(settings, graph, None, Existing())  # type: ignore[arg-type]
    summaries_of_tasks = [
        json.loads(batch.column("summary")[0].as_py())
        for _ in range(2)
        for batch in function(in_batches(plan[:2], 2, SCHEMA))
    ]
    assert [task["loads"] for task in summaries_of_tasks] == [1, 0]
    assert (graph.reads, loads() - before) == (1, 1)
    assert "_value" not in vars(graph)


def test_a_trial_stores_nothing(
    task_settings: ExtractSettings, plan: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings = replace(task_settings, table_uri=None)
    function = extract_partition(settings, Graph(), None, Existing())  # type: ignore[arg-type]
    (values,) = summaries(function, in_batches(plan, 4, SCHEMA))
    assert (values["file"], values["ok"], values["failed"]) == (None, 9, 2)
    assert not (tmp_path / "table").exists()


def test_features_of_the_same_bytes_are_copied_from_the_table(
    task_settings: ExtractSettings, plan: list[dict[str, Any]], tmp_path: Path
) -> None:
    sha256 = hashlib.sha256((tmp_path / "3.png").read_bytes()).hexdigest()
    uri = str(tmp_path / "table")
    others = [row(name, features=[0.0, 0.0, 0.0]) for name in "ab"]
    known = row("c", features=[1.0, 2.0, 3.0], width=5, height=6, format="PNG")
    table = put(uri, [write_part(uri, [*others, {**known, "content_sha256": sha256}])])
    existing = Existing(ExistingContent.of([sha256], [0], [2]))
    function = extract_partition(task_settings, Graph(), table, existing)  # type: ignore[arg-type]
    (values,) = summaries(function, in_batches(plan, 4, SCHEMA))
    assert (values["ok"], values["copied"]) == (9, 1)
    stored = pq.read_table(f"{uri}/{values['file']['path']}").to_pylist()
    copies = {entry["image_id"]: entry for entry in stored if entry["engine"] == "e"}
    assert list(copies) == ["3.png"]
    assert copies["3.png"]["features"] == [1.0, 2.0, 3.0]
    assert copies["3.png"]["content_sha256"] == sha256


def test_a_partition_without_rows_stores_no_file(task_settings: ExtractSettings) -> None:
    function = extract_partition(task_settings, Graph(), None, Existing())  # type: ignore[arg-type]
    (batch,) = run(function, [])
    assert '"file": null' in batch.column("summary")[0].as_py()


def test_decoders_are_reused_while_settings_stay(
    task_settings: ExtractSettings, plan: list[dict[str, Any]]
) -> None:
    settings = replace(task_settings, table_uri=None)
    pools = []
    for thumbnail_side in (None, None, 64):
        changed = replace(settings, thumbnail_side=thumbnail_side)
        function = extract_partition(changed, Graph(), None, Existing())  # type: ignore[arg-type]
        list(function(in_batches(plan[:2], 2, SCHEMA)))
        assert len(extract._decoders) == 1
        pools += extract._decoders.values()
    assert pools[0] is pools[1]
    assert pools[2] is not pools[0]


def test_columns_of_the_plan_that_are_no_input_are_ignored(plan: list[dict[str, Any]]) -> None:
    inputs = list(picture_inputs(in_batches(plan, 3, SCHEMA)))
    assert [(source.image_id, source.uri) for source in inputs] == [
        (entry["image_id"], entry["uri"]) for entry in plan
    ]


def test_the_gpus_of_a_task() -> None:
    with_gpu = SimpleNamespace(resources=lambda: {"gpu": SimpleNamespace(addresses=["1", "3"])})
    without = SimpleNamespace(resources=dict)
    assert gpu_addresses(with_gpu) == ["1", "3"]  # type: ignore[arg-type]
    assert gpu_addresses(without) == gpu_addresses(None) == []  # type: ignore[arg-type]
