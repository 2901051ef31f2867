"""The layout, measured: what runs where, how large modules are, which words name things.

Who may import whom is import-linter's (`make lint`); here is what it cannot see.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

CODE = ("pool3", "udfs", "jobs")
#: Words that say nothing of what they name; `CONTRIBUTING.md` has what to say instead.
VAGUE = frozenset(
    (
        "found",
        "told",
        "held",
        "asked",
        "one",
        "facts",
        "fact",
        "part",
        "parts",
        "known",
        "kept",
        "near",
    )
)
#: What only the driver can do.
DRIVER = re.compile(
    r"\bSparkSession\b|\bsparkContext\b|\.collect\(\)|toLocalIterator|\.persist\(|\.cache\(\)"
    r"|\btoArrow\(|\btoPandas\(|\bspread\(|\bgather\("
)


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((REPOSITORY / folder).rglob("*.py"))


def identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Attribute):
            yield node.attr


@pytest.mark.parametrize("module", list(modules("udfs")), ids=lambda path: path.stem)
def test_udfs_hold_nothing_of_the_driver(module: Path) -> None:
    assert DRIVER.findall(module.read_text()) == []


@pytest.mark.parametrize(
    "main", sorted((REPOSITORY / "jobs").glob("[a-z]*.py")), ids=lambda p: p.stem
)
def test_a_main_is_short_and_offers_its_parts(main: Path) -> None:
    text = main.read_text()
    assert text.count("\n") <= 90
    assert '__all__ = ["arg_parser", "main", "run"]' in text
    assert text.startswith(f'"""{main.stem.replace("_", "-")}: ')  # submit.sh --help shows it


def test_few_modules_lie_loose() -> None:
    assert len(list((REPOSITORY / "pool3").glob("*.py"))) <= 6
    assert len(list((REPOSITORY / "pool3" / "index").glob("*.py"))) <= 8


def test_functions_are_short() -> None:
    lengths = [
        node.end_lineno - node.lineno + 1
        for path in modules(*CODE)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    ]
    assert statistics.median(lengths) <= 9


def test_names_say_what_they_name() -> None:
    named = [name for path in modules(*CODE) for name in identifiers(ast.parse(path.read_text()))]
    vague = [name for name in named if VAGUE & set(name.strip("_").split("_"))]
    assert 1000 * len(vague) / len(named) <= 5, sorted(set(vague))


@pytest.mark.parametrize("folder", ["pool3", "udfs", "jobs"])
def test_tests_mirror_the_folders(folder: str) -> None:
    """Each folder of tests stands for a folder of code, whose name it has."""
    for path in (REPOSITORY / "tests" / folder).rglob("test_*.py"):
        inside = path.parent.relative_to(REPOSITORY / "tests")
        assert (REPOSITORY / inside).is_dir(), path
