"""What the README tells a newcomer to type is run as it stands."""

from __future__ import annotations

import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from tests.conftest import REPOSITORY
from tests.docs.pages import blocks
from tests.docs.shell import jobs_named, make_targets_named

PAGE = REPOSITORY / "README.md"
SHELL = "\n".join(blocks(PAGE, "sh"))


def test_the_query_code_runs(
    demo_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query, labels, filtered = blocks(PAGE, "python")
    monkeypatch.chdir(demo_folder)
    names: dict[str, object] = {}
    exec(compile(query, "README.md", "exec"), names)
    assert (demo_folder / "build/demo/five.png").is_file()
    assert "000-mountains--original.png" in capsys.readouterr().out
    assert [len(hits) for hits in names["both"]] == [3, 3]  # type: ignore[attr-defined]
    exec(compile(labels, "README.md", "exec"), names)
    with_labels(demo_folder / "build/demo", monkeypatch)
    exec(compile(filtered, "README.md", "exec"), names)
    rows = names["mountains"].to_pandas()  # type: ignore[attr-defined]
    assert len(rows) == 5
    assert set(rows["label"]) == {"mountains"}
    assert all("-mountains--" in image_id for image_id in rows["image_id"])
    kinds = names["kinds"].to_pandas()["label"]  # type: ignore[attr-defined]
    assert kinds.is_unique


def with_labels(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what ``build-index --metadata`` does to the demo's index, without Spark.

    The index that other tests share stays as it is: searches below see a copy.
    """
    import pool3
    from tests.small_index import build_index

    index = pool3.open(demo / "index")
    every = index.search(image_id=sorted((demo / "pictures").iterdir())[0].as_posix(), k=len(index))
    rows = index.search(image_id=every.ids[0], k=len(index), vectors=True)
    frame = rows.to_pandas().drop(columns=["rank", "distance"])
    frame = frame.merge(pd.read_parquet(demo / "labels"), on="image_id", how="left")
    metadata = pa.Table.from_pandas(frame.drop(columns="image_id"), preserve_index=False)
    labelled = build_index(demo / "labelled", rows.vectors, ids=rows.ids, metadata=metadata)
    monkeypatch.setattr(pool3.Index, "refresh", lambda _: pool3.open(labelled))


def test_the_commands_of_jobs_are_such_as_the_jobs_accept() -> None:
    commands = [
        shlex.split(line, comments=True)
        for line in SHELL.replace("\\\n", " ").splitlines()
        if line.startswith("./submit.sh ")
    ]
    assert len(commands) >= 3
    for _, job, *options in commands:
        if job != "--help":
            module = import_module(f"jobs.{job.replace('-', '_')}")
            module.arg_parser().parse_args(options)


def test_every_make_target_and_job_that_it_names_exists() -> None:
    for target in make_targets_named(SHELL):
        subprocess.run(["make", "-n", target], cwd=REPOSITORY, check=True, capture_output=True)
    jobs = jobs_named(SHELL)
    assert jobs
    for job in jobs:
        assert (REPOSITORY / "jobs" / f"{job.replace('-', '_')}.py").is_file()


def test_ci_calls_the_test_commands_of_the_readme() -> None:
    ci = (REPOSITORY / ".ci" / "run").read_text()
    (first,) = [line for line in SHELL.splitlines() if line.startswith("make test")]
    assert first.split("#")[0].strip() in ci.splitlines()


def test_it_is_short() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 150
