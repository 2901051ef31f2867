"""What the README tells a newcomer to type is run as it stands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_query_code_runs(
    demo_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks("python")
    monkeypatch.chdir(demo_folder)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert (demo_folder / "build/demo/five.png").is_file()
    assert "000-mountains--original.png" in capsys.readouterr().out
    assert names["ids"].shape == names["distances"].shape == (3, 10)  # type: ignore[attr-defined]


def test_every_make_target_and_job_that_it_names_exists() -> None:
    shell = "\n".join(blocks("sh"))
    for target in re.findall(r"^make ([a-z-]+)", shell, re.MULTILINE):
        subprocess.run(["make", "-n", target], cwd=REPOSITORY, check=True, capture_output=True)
    jobs = re.findall(r"^\./submit\.sh ([a-z][a-z-]*) ", shell, re.MULTILINE)
    assert jobs
    for job in jobs:
        assert (REPOSITORY / "jobs" / f"{job.replace('-', '_')}.py").is_file()


def test_ci_calls_the_test_commands_of_the_readme() -> None:
    ci = (REPOSITORY / ".ci" / "run").read_text()
    (first,) = re.findall(r"^make test\b.*$", "\n".join(blocks("sh")), re.MULTILINE)
    assert first.split("#")[0].strip() in ci.splitlines()
