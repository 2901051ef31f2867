"""Every file, and every part of a page, that is made from the code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from docs.generate.architecture import architecture_svg
from docs.generate.contracts import contracts_table
from docs.generate.imports import REPOSITORY
from docs.generate.options import command_page, job_names, job_page, jobs_page

DOCS = REPOSITORY / "docs"
#: Tables inside pages that people write: by the page, and the name in its marks.
TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("architecture.md", "contracts"): contracts_table,
}


def generated() -> dict[Path, str]:
    """Return what each generated file should hold now."""
    files: dict[str, Callable[[], str]] = {
        "images/architecture.svg": architecture_svg,
        "reference/pool3.md": command_page,
        "reference/jobs/index.md": jobs_page,
        **{f"reference/jobs/{job}.md": partial(job_page, job) for job in job_names()},
    }
    texts = {DOCS / name: make() for name, make in files.items()}
    for page in {page for page, _ in TABLES}:
        texts[DOCS / page] = _with_tables(page)
    return texts


def stale() -> list[Path]:
    """Return the files that do not hold what the code says."""
    return [path for path, text in generated().items() if not _holds(path, text)]


def write() -> list[Path]:
    """Write what is stale; returns those files."""
    changed = []
    for path, text in generated().items():
        if not _holds(path, text):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _with_tables(page: str) -> str:
    """Return a page with its tables made again between their marks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for (of_page, name), make in TABLES.items():
        if of_page == page:
            before, _, rest = text.partition(f"<!-- generated: {name} -->\n")
            _, end, after = rest.partition("<!-- end -->")
            if not end:
                raise LookupError(f"expected the marks of a generated table, {name}, in {page}")
            text = f"{before}<!-- generated: {name} -->\n{make()}\n{end}{after}"
    return text
