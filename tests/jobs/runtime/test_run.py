"""Around a job: exit status, one sentence, and a report in the right place."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.runtime.report import Report
from jobs.runtime.run import job_parser, run_job
from pool3.errors import Pool3Error, UsageError


@dataclass(frozen=True)
class Config:
    output: str
    report: str | None = None
    metrics_file: str | None = None
    plan: bool = False

    @property
    def output_uri(self) -> str:
        return self.output


def call(
    argv: list[str], error: Exception | None = None, exit_code: int = 0, metrics: bool = False
) -> int:
    parser = job_parser("demo-job", "Does nothing.", "example")
    parser.add_argument("--output", required=True)
    if metrics:
        parser.add_argument("--metrics-file")
        parser.add_argument("--plan", action="store_true")

    def configure(arguments: argparse.Namespace) -> Config:
        return Config(**vars(arguments))

    def run(config: Config) -> Report:
        if error is not None:
            raise error
        report = Report(job="demo-job", exit_code=exit_code)
        report.counts["ok"] = 3
        report.details["table_version"] = 5
        return report

    return run_job("demo-job", argv, parser=parser, configure=configure, run=run)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    report: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return report


REQUIRED = {
    "schema_version", "job", "run_id", "outcome", "exit_code", "counts", "errors", "seconds",
    "steady_images_per_s", "cpu_s_per_image", "model_id", "versions", "warnings",
}  # fmt: skip


def test_the_report_is_the_last_line_and_stands_beside_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["--output", str(tmp_path / "table")]) == 0
    report = last_line(capsys)
    assert set(report) >= REQUIRED
    assert set(report["seconds"]) >= {  # type: ignore[call-overload]
        "startup", "fetch", "decode", "inference", "write", "wait", "total",
    }  # fmt: skip
    assert (report["outcome"], report["table_version"]) == ("done", 5)
    assert report["counts"] == {"ok": 3, "failed": 0, "skipped": 0, "gone": 0}
    assert json.loads((tmp_path / "table.report.json").read_text()) == report


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (UsageError("expected x, found y"), 2, "usage"),
        (Pool3Error("the disk is full"), 1, "failed"),
        (RuntimeError("a bug"), 1, "failed"),
        (RuntimeError("job aborted\npool3.errors.ModelError: no such op\n at"), 2, "usage"),
        (RuntimeError("job aborted\npool3.errors.StorageError: denied\n at"), 1, "failed"),
    ],
)
def test_errors_set_the_status(
    error: Exception,
    status: int,
    outcome: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["--output", str(tmp_path / "table")], error) == status
    report = last_line(capsys)
    assert (report["exit_code"], report["outcome"]) == (status, outcome)
    assert report["error"]
    # Wrong arguments write nothing; a failure is reported where a pipeline looks for it.
    assert (tmp_path / "table.report.json").exists() == (status != 2)


def test_wrong_arguments_are_reported_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "reports" / "r.json"
    status = call(["--output", "x", "--report", str(where)], UsageError("expected x, found y"))
    assert (status, json.loads(where.read_text())["outcome"]) == (2, "usage")
    assert call(["--no-such-option"]) == 2
    assert "--help" in str(last_line(capsys)["error"])
    where.unlink()
    assert call(["--no-such-option", "--report", str(where)]) == 2
    assert json.loads(where.read_text())["outcome"] == "usage"


@pytest.mark.parametrize(
    ("words", "error", "status"),
    [
        (["--output", "TABLE"], None, 0),
        (["--output", "TABLE"], Pool3Error("the disk is full"), 1),
        (["--output", "TABLE"], RuntimeError("a bug"), 1),
        (["--output", "TABLE"], UsageError("expected x, found y"), 2),
        (["--no-such-option"], None, 2),
    ],
)
def test_metrics_are_written_however_a_run_ends(
    tmp_path: Path, words: list[str], error: Exception | None, status: int
) -> None:
    where = tmp_path / "pool3.prom"
    argv = [word.replace("TABLE", str(tmp_path / "table")) for word in words]
    assert call([*argv, "--metrics-file", str(where)], error, metrics=True) == status
    assert f'pool3_run_exit_code{{job="demo-job"}} {status}\n' in where.read_text()


def test_a_plan_leaves_the_metrics_of_the_last_run(tmp_path: Path) -> None:
    argv = ["--output", str(tmp_path / "t"), "--metrics-file", str(tmp_path / "m"), "--plan"]
    assert call(argv, metrics=True) == 0
    assert not (tmp_path / "m").exists()


def test_metrics_that_cannot_be_written_fail_the_job_and_leave_its_report(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    argv = ["--output", str(tmp_path / "t"), "--metrics-file", str(tmp_path / "file" / "m")]
    assert call(argv, metrics=True) == 1
    assert json.loads((tmp_path / "t.report.json").read_text())["outcome"] == "failed"


def test_a_report_that_cannot_be_written_fails_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert call(["--output", "x", "--report", str(tmp_path / "file" / "r.json")]) == 1
    assert last_line(capsys)["outcome"] == "failed"


def test_a_gate_is_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--output", str(tmp_path / "t")], exit_code=3) == 3
    assert last_line(capsys)["outcome"] == "gate"
