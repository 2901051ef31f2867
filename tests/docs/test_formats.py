"""``formats.md`` is the contract: it has every column, key and format version of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.runtime.report import OUTCOMES, SCHEMA_VERSION
from pool3.features import suppression
from pool3.features.schema import FEATURE_SCHEMA, PERMANENT_ERRORS, TRANSIENT_ERRORS
from pool3.index.format import manifest, tensors
from pool3.models import directory
from tests.conftest import REPOSITORY
from udfs.duplicates import DUPLICATE_SCHEMA
from udfs.search import ANSWER_SCHEMA

PAGE = (REPOSITORY / "docs" / "formats.md").read_text(encoding="utf-8")
GOLDEN = REPOSITORY / "tests" / "contract" / "golden"


def section(heading: str) -> str:
    """Return the text below a heading of the second level."""
    match = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE
    )
    assert match is not None, heading
    return match[1]


def words(text: str) -> set[str]:
    """Return what stands between backquotes; blocks of code aside."""
    return set(re.findall(r"`([^`\n]+)`", text))


def golden_keys(name: str) -> set[str]:
    """Return the keys that a golden file lists, indented, as they stand."""
    lines = (GOLDEN / name).read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if re.match(r"^  [a-z]", line)}


def ways_to_say(key: str) -> set[str]:
    """Return the key, and its last names: a table below its own heading leaves the first out."""
    names = key.split(".")
    plain = {".".join(names[at:]) for at in range(len(names))}
    return plain | {name.removesuffix("[]") for name in plain}


@pytest.mark.parametrize("schema", [FEATURE_SCHEMA, ANSWER_SCHEMA, DUPLICATE_SCHEMA])
def test_every_column_is_described(schema: pa.Schema) -> None:
    heading = "Feature table" if schema is FEATURE_SCHEMA else "Result tables"
    assert set(schema.names) <= words(section(heading))


def test_every_error_code_is_described() -> None:
    assert words(section("Feature table")) >= PERMANENT_ERRORS | TRANSIENT_ERRORS


@pytest.mark.parametrize(
    ("golden", "heading"),
    [
        ("manifest.txt", "Index"),
        ("publication.txt", "Index"),
        ("model.txt", "Model directory"),
        ("report.txt", "Reports"),
        ("report-import-model.txt", "Reports"),
        ("report-publish-index.txt", "Reports"),
        ("info.txt", "JSON of the pool3 command"),
        ("pool3-json.txt", "JSON of the pool3 command"),
    ],
)
def test_every_key_on_record_is_described(golden: str, heading: str) -> None:
    described = words(section(heading))
    missing = [
        key
        for key in sorted(golden_keys(golden) - {"of_its_own"})
        if not ways_to_say(key) & described
    ]
    assert missing == []


def test_every_key_that_a_job_adds_to_its_report_is_described() -> None:
    described = words(section("Reports"))
    sources = (REPOSITORY / "jobs").rglob("*.py")
    added = {key for source in sources for key in keys_added(source)}
    assert {"table_version", "left_out", "explained_variance"} <= added
    assert added - described == set()


def keys_added(source: Path) -> Iterator[str]:
    """Yield the keys that a module puts into ``report.details`` by name.

    Those are keywords of ``details.update``, names in ``details[...]``, and the keys of what
    functions return that are called so.
    """
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("details.update"):
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(".details"):
            yield from re.findall(r"^'(\w+)'$", ast.unparse(node.slice))
        if isinstance(node, ast.FunctionDef) and node.name.endswith("details"):
            yield from keys_returned(node)


def keys_returned(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the keys of the dicts that a function returns as they stand in it."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict):
            keys = [ast.unparse(key) for key in node.value.keys if key is not None]
            yield from (key.strip("'") for key in keys)


def test_every_metric_is_described() -> None:
    metrics = re.findall(r"^# TYPE (\w+)", (GOLDEN / "metrics.txt").read_text(), re.MULTILINE)
    assert set(metrics) <= words(section("Metrics"))


def test_every_outcome_is_described() -> None:
    text = section("Reports")
    assert all(f"`{name}` {code}" in text for code, name in OUTCOMES.items())


def test_the_files_of_an_index_are_described() -> None:
    names = {line.rsplit("/", 1)[-1] for line in golden_keys("index-files.txt") if "/" in line}
    text = section("Index")
    for name in names - {"00000000000000000001.json", "00000000000000000002.json"}:
        stem = re.split(r"-(?:test|<unique>|\d+-)", name)[0]
        assert stem in text, name


@pytest.mark.parametrize(
    ("artefact", "written", "read"),
    [
        ("suppression list", suppression.FORMAT_VERSION, (suppression.FORMAT_VERSION,)),
        ("model directory", directory.FORMAT_VERSION, directory.READABLE),
        ("index snapshot", manifest.FORMAT_VERSION, manifest.READABLE_VERSIONS),
        ("tensor files", tensors.FORMAT_VERSION, (tensors.FORMAT_VERSION,)),
        ("report of a job", SCHEMA_VERSION, None),
    ],
)
def test_the_versions_are_those_of_the_code(
    artefact: str, written: int, read: tuple[int, ...] | None
) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {artefact}")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == str(written)
    assert cells[3] == ("not read" if read is None else ", ".join(map(str, read)))


def test_the_changelog_has_the_same_versions() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if "(unreleased) writes" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:] == [
        str(version)
        for version in (
            suppression.FORMAT_VERSION,
            directory.FORMAT_VERSION,
            manifest.FORMAT_VERSION,
            tensors.FORMAT_VERSION,
            SCHEMA_VERSION,
        )
    ]
