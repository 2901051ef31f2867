from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.import_model import main
from pool3.models import read_model
from tests.pool3.models.sources.test_seeded import ID_WITHOUT_PROFILES, MODEL_ID


def report_of(text: str) -> dict[str, object]:
    report: dict[str, object] = json.loads(text.splitlines()[-1])
    return report


def test_a_source_becomes_a_model_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a model"
    assert main(["--source", "seeded", "--output", str(output)]) == 0
    report = report_of(capsys.readouterr().out)
    assert (report["outcome"], report["model_id"], report["resize"]) == (
        "done", MODEL_ID, "pil-bilinear",
    )  # fmt: skip
    assert json.loads(Path(f"{output}.report.json").read_text()) == report
    assert read_model(str(output)).model_id == MODEL_ID
    again = ["--source", str(output), "--output", str(output), "--resize", "tf1-bilinear"]
    assert main(again) == 2
    assert "found " + MODEL_ID in str(report_of(capsys.readouterr().out)["error"])
    again[3] = str(tmp_path / "other")
    assert main(again) == 0
    assert read_model(again[3]).resize == "tf1-bilinear"
    assert read_model(again[3]).colour == "srgb"
    before = ["--source", str(output), "--output", str(tmp_path / "old"), "--colour", "ignored"]
    capsys.readouterr()
    assert main(before) == 0
    report = report_of(capsys.readouterr().out)
    assert (report["colour"], report["model_id"]) == ("ignored", ID_WITHOUT_PROFILES)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--source", "seeded"], "--output"),
        (["--source", "seeded", "--resize", "nearest"], "bilinear, found 'nearest'"),
        (["--source", "seeded", "--colour", "p3"], "--colour to be one of ignored, srgb, found"),
        (["--source", "seeded", "--input-tensor", "x:0"], "only for a frozen graph"),
        (["--source", "/no/such/file.pb"], "found no file or folder '/no/such/file.pb'"),
        (["--source", __file__], "something that begins with"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    output = [] if told == "--output" else ["--output", str(tmp_path / "m")]
    assert main([*options, *output]) == 2
    assert told in str(report_of(capsys.readouterr().out)["error"])
    assert not list(tmp_path.iterdir())
