"""What pages say of commands, options, modules and variables is true."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import pool3
from docs.generate.options import job_names
from tests.conftest import REPOSITORY
from tests.docs.examples import files_of
from tests.docs.pages import DOCS, name_of, pages
from tests.docs.shell import jobs_named, make_targets_named

WRITTEN = [page for page in pages() if "reference/jobs/" not in name_of(page)]
_MACHINE = re.compile(r"(?<![\w.*])/(?:root|home|work|tmp|Users|opt)/")
_CODE = ("pool3/", "jobs/", "udfs/", "benchmarks/", "tests/", "conf/", "docs/", "notebooks/")
#: Files that an example adds, so that they are not there.
_ADDED_BY_EXAMPLES = "howto/"


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_no_path_of_a_machine(page: Path) -> None:
    assert _MACHINE.findall(text_of(page)) == []


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_files_that_it_names_exist(page: Path) -> None:
    added = {name for howto in (DOCS / "howto").glob("*.md") for name in files_of(howto)}
    for name in re.findall(r"`([\w./-]+)`", text_of(page)):
        if name.startswith(_CODE) and name not in {*added, "udfs/STEM.py"}:
            assert (REPOSITORY / name).exists() or (REPOSITORY / f"{name}.py").exists(), name


def test_names_that_pages_place_in_a_file_are_there() -> None:
    placed = [
        (page, *match)
        for page in WRITTEN
        for match in re.findall(r"`(\w+)`\s+in\s+`([\w/]+\.py)`", text_of(page))
    ]
    assert len(placed) >= 5
    for page, name, file in placed:
        source = text_of(REPOSITORY / file)
        assert re.search(rf"^(?:class |def )?{name}\b", source, re.MULTILINE), (page, name, file)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_commands_that_it_names_exist(page: Path) -> None:
    text = text_of(page)
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in {*make_targets_named(text), *re.findall(r"`make ([a-z-]+)`", text)}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    jobs = {*jobs_named(text), *re.findall(r"`\./submit\.sh ([a-z][a-z-]*)", text)}
    if _ADDED_BY_EXAMPLES not in name_of(page):
        assert jobs <= set(job_names())
    for module in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert (REPOSITORY / f"{module.replace('.', '/')}.py").is_file(), module


def test_options_that_pages_name_exist() -> None:
    """Each ``--option`` in prose is one of a job, of ``pool3``, or of a named other program."""
    ours = {
        option
        for page in (DOCS / "reference").rglob("*.md")
        for option in re.findall(r"--[a-z][a-z0-9-]+", text_of(page))
    }
    others = {"--py-files", "--profile", "--help", "--conf", "--threads", "--data", "--rows"}
    others |= {"--ways", "--label-key"}
    for page in WRITTEN:
        if _ADDED_BY_EXAMPLES not in name_of(page):
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text_of(page)))
            assert named - ours - others == set(), name_of(page)


def test_the_environment_page_has_every_variable() -> None:
    sources = [
        *(path for root in ("pool3", "jobs", "udfs") for path in (REPOSITORY / root).rglob("*.py")),
        REPOSITORY / "submit.sh",
    ]
    used = {name for path in sources for name in re.findall(r"POOL3_[A-Z_]+", text_of(path))}
    assert "POOL3_CACHE_DIR" in used
    assert used <= set(re.findall(r"`(POOL3_[A-Z_]+)`", text_of(DOCS / "reference/environment.md")))


def test_the_python_page_has_every_public_name() -> None:
    page = text_of(DOCS / "reference" / "python.md")
    errors = import_module("pool3.errors")
    assert "::: pool3.errors" in page
    for name in pool3.__all__:
        assert f"::: pool3.{name}\n" in page or hasattr(errors, name), name


def test_every_figure_of_the_readme_stands_in_measured() -> None:
    readme, measured = text_of(REPOSITORY / "README.md"), text_of(DOCS / "measured.md")
    table = readme.partition("## Measured")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|[^|]*\| (.*?) \| (`[^`]+`|as above) \|$", table, re.MULTILINE)
    assert len(rows) >= 5
    compared = measured.partition("## Beside other libraries")[2].partition("\n## ")[0]
    cells = {cell.strip(" *") for line in compared.splitlines() for cell in line.split("|")}
    for figure, command in rows:
        assert command == "as above" or command in measured.replace("\n", " "), command
        numbers = set(re.findall(r"\d[\d.,]*", figure))
        assert figure in measured or numbers <= cells, figure
