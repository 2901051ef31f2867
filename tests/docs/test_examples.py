"""The code on pages runs as it stands."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.examples import files_of, installed, run_tests, snippets_of
from tests.docs.pages import DOCS, blocks

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HOWTO = DOCS / "howto"


def code_and_tests(*pages: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the modules that pages add to the project, and the tests that they show."""
    files = {name: text for page in pages for name, text in files_of(HOWTO / page).items()}
    tests = {name: text for name, text in files.items() if name.startswith("tests/")}
    return {name: text for name, text in files.items() if name not in tests}, tests


@pytest.mark.parametrize("page", ["add-a-udf.md", "add-a-weights-source.md", "add-an-engine.md"])
def test_what_a_page_adds_passes_the_tests_that_it_shows(page: str, tmp_path: Path) -> None:
    code, tests = code_and_tests(page)
    assert len(code) == len(tests) == 1
    with installed(code, tmp_path / "project"):
        data = tmp_path / "data"
        data.mkdir()
        ran = [run_tests(name, text, {"tmp_path": data}) for name, text in tests.items()]
    assert all(ran)


def test_the_job_of_a_page_passes_the_tests_that_it_shows(
    spark: SparkSession, tmp_path: Path
) -> None:
    from pyspark import cloudpickle

    code, tests = code_and_tests("add-a-udf.md", "add-a-job.md")
    data = tmp_path / "data"
    data.mkdir()
    with installed(code, tmp_path / "project"):
        # The workers of this session import the project, which has no such module.
        module = importlib.import_module("udfs.formats")
        cloudpickle.register_pickle_by_value(module)
        try:
            text = tests["tests/jobs/test_count_formats.py"]
            assert run_tests("test_count_formats", text, {"spark": spark, "tmp_path": data}) == 2
        finally:
            cloudpickle.unregister_pickle_by_value(module)


def test_the_options_of_the_job_are_checked_without_a_jvm(tmp_path: Path) -> None:
    code, _ = code_and_tests("add-a-udf.md", "add-a-job.md")
    with installed(code, tmp_path / "project"):
        main = importlib.import_module("jobs.count_formats").main
        assert main(["--no-such-option"]) == 2


def test_the_snippets_about_columns_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    snippets = snippets_of(HOWTO / "add-a-column.md")
    assert len(snippets) == 2
    for snippet in snippets:
        exec(compile(snippet, "add-a-column.md", "exec"), names)


def test_the_code_about_searching_runs(demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo_folder)
    names: dict[str, object] = {}
    for code in blocks(DOCS / "searching.md", "python"):
        exec(compile(code, "searching.md", "exec"), names)
    assert (demo_folder / "build/demo/sheet.png").is_file()
    assert names["ids"].shape == names["distances"].shape == (3, 10)  # type: ignore[attr-defined]


def test_a_broken_example_is_noticed(tmp_path: Path) -> None:
    text = "def test_wrong() -> None:\n    assert 1 == 2\n"
    with pytest.raises(AssertionError):
        run_tests("wrong", text, {})
    with installed({"udfs/just_for_this.py": "VALUE = 3\n"}, tmp_path):
        assert importlib.import_module("udfs.just_for_this").VALUE == 3
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("udfs.just_for_this")
