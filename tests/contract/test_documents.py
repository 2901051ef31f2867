"""Documents that others read: reports, metrics, manifests, the facts of an index, model.json."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pool3
from jobs.runtime.prometheus import prometheus_text
from jobs.runtime.report import OUTCOMES, SCHEMA_VERSION, Report
from tests.contract.pinned import check, key_paths, section
from tests.small_index import build_index
from tests.tombstones import add_tombstones

Captured = pytest.CaptureFixture[str]
VECTORS = np.random.default_rng(1).standard_normal((240, 8)).astype(np.float32)
METADATA = pa.table({"label": ["a", "b", None] * 80})
_UNIQUE = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{32}|[0-9a-f]{16})(?![0-9a-f])")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of two shards with metadata."""
    folder = tmp_path_factory.mktemp("contract") / "index"
    return build_index(folder, VECTORS, n_shards=2, metadata=METADATA)


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of vectors on one line, which are long enough for PCA; some rows are dead."""
    line = np.outer(np.linspace(1, 2, 150), np.arange(1, 151)).astype(np.float32)
    folder = build_index(tmp_path_factory.mktemp("contract") / "index", line)
    add_tombstones(folder, {0: [0, 2]})
    return folder


@pytest.fixture(scope="module")
def measured(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose recall was measured, since ``pool3 export`` made it."""
    exported = tmp_path_factory.mktemp("contract") / "exported"
    assert _exit_status("export", str(index), "--output", str(exported)) == 0
    return exported


@pytest.fixture(scope="module")
def model_folder() -> Iterator[Path]:
    """A folder for a model, which is large and is removed at once."""
    with TemporaryDirectory() as folder:
        yield Path(folder) / "model"


def test_a_report_has_the_keys_on_record() -> None:
    document = json.loads(Report(job="some-job", details={"of_its_own": 1}).to_json())
    text = section("schema_version", [str(SCHEMA_VERSION)])
    text += section("outcome by exit_code", [f"{key}: {name}" for key, name in OUTCOMES.items()])
    check("report.txt", text + section("keys", key_paths(_versions_folded(document))))


def test_import_model_tells_and_writes_the_keys_on_record(
    model_folder: Path, capsys: Captured
) -> None:
    report = _report("import-model", capsys, "--source", "seeded", "--output", str(model_folder))
    check("report-import-model.txt", section("keys", key_paths(report)))
    facts = json.loads((model_folder / "model.json").read_text())
    assert set(facts["files"]) == {"graph.pb", "weights.safetensors"}
    facts["files"] = list(facts["files"].values())  # their names have dots, as paths of keys do
    text = section("format_version", [str(facts["format_version"])])
    text += section("files", sorted(path.name for path in model_folder.iterdir()))
    check("model.txt", text + section("keys of model.json", key_paths(facts)))


def test_publish_index_tells_the_keys_on_record(index: Path, capsys: Captured) -> None:
    report = _report("publish-index", capsys, "--index", str(index), "--snapshot", "1")
    check("report-publish-index.txt", section("keys", key_paths(report)))


def test_metrics_are_those_on_record() -> None:
    report = Report(job="some-job", run_id="run-1", exit_code=3, model_id="m", warnings=["one"])
    report.counts["ok"] = 2
    report.errors["corrupt"] = 1
    report.steady_images_per_s, report.cpu_s_per_image = 1.5, 0.25
    report.details["remaining"] = 4
    check("metrics.txt", prometheus_text(report, finished_at_s=1700000000.5))


def test_a_manifest_has_the_keys_on_record(index: Path, reduced: Path, measured: Path) -> None:
    plain = _manifest(index)
    text = section("format_version", [str(plain["format_version"])])
    text += section("keys", key_paths(plain))
    text += section("also with PCA and dead rows", _more(_manifest(reduced), plain))
    text += section("also where recall was measured", _more(_manifest(measured), plain))
    check("manifest.txt", text)


def test_an_entry_of_the_publication_log_has_the_keys_on_record(index: Path) -> None:
    (entry,) = (index / "published").iterdir()
    check("publication.txt", section("keys", key_paths(json.loads(entry.read_text()))))


def test_the_files_of_an_index_are_called_as_on_record(
    index: Path, reduced: Path, measured: Path
) -> None:
    text = section("with metadata", _files(index))
    text += section("with PCA and dead rows", _files(reduced))
    text += section("where recall was measured", _files(measured))
    check("index-files.txt", text)


def test_the_facts_of_an_index_have_the_names_on_record(index: Path, measured: Path) -> None:
    plain = pool3.open(index).info()
    text = section("keys", key_paths(plain))
    text += section("also where recall was measured", _more(pool3.open(measured).info(), plain))
    check("info.txt", text)


def test_pool3_prints_json_with_the_keys_on_record(measured: Path, capsys: Captured) -> None:
    text = ""
    for command, *arguments in (("info",), ("search", "--image-id", "id000003")):
        capsys.readouterr()
        assert _exit_status(command, str(measured), *arguments, "--json") == 0
        document = json.loads(capsys.readouterr().out)
        text += section(f"pool3 {command} --json", key_paths(document))
    check("pool3-json.txt", text)


def _exit_status(*arguments: str) -> int:
    """Run the console script in this process."""
    from pool3.cli import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pool3", *arguments])
        with pytest.raises(SystemExit) as left:
            run()
    return int(left.value.code or 0)


def _report(job: str, capsys: Captured, *arguments: str) -> dict[str, Any]:
    """Run a job that needs no Spark; returns the last line on stdout."""
    assert import_module(f"jobs.{job.replace('-', '_')}").main(arguments) == 0
    return _versions_folded(json.loads(capsys.readouterr().out.splitlines()[-1]))


def _versions_folded(report: dict[str, Any]) -> dict[str, Any]:
    """Leave out which libraries are installed."""
    assert "python" in report["versions"]
    return {**report, "versions": {}}


def _manifest(index: Path) -> dict[str, Any]:
    newest = max(index.glob("snapshots/*/manifest.json"))
    document: dict[str, Any] = json.loads(newest.read_text())
    return document


def _files(index: Path) -> list[str]:
    """List the files of an index; what only makes their names unique is folded."""
    files = (str(path.relative_to(index)) for path in index.rglob("*") if path.is_file())
    return sorted({_UNIQUE.sub("<unique>", name) for name in files})


def _more(document: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    return sorted(set(key_paths(document)) - set(key_paths(plain)))
