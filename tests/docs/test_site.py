"""The documentation builds as a site, strictly, and a page fetches nothing from elsewhere."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pool3
from tests.conftest import REPOSITORY

# What a browser fetches by itself; a link that a reader follows is none of it.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s>]*"
    r"|<link\b[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|icon)[^>]*href=[\"']?(?:https?:)?//[^>]*"
    r"|url\([\"']?https?://[^)]*"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_has_every_page(site: Path) -> None:
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    docs = REPOSITORY / "docs"
    sources = {
        path.relative_to(docs).with_suffix(".html").as_posix() for path in docs.rglob("*.md")
    }
    assert sources | {"CHANGELOG.html", "CONTRIBUTING.html"} <= built


def test_it_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    fetched = {source for page in pages for source in _FETCHED.findall(page.read_text("utf-8"))}
    assert fetched == set()


def test_its_reference_has_the_docstrings(site: Path) -> None:
    text = (site / "reference" / "python.html").read_text("utf-8")
    for anchor in ("pool3.open", "pool3.Index.search", "pool3.Hits.to_pandas"):
        assert f'id="{anchor}"' in text


def test_its_reference_spells_out_the_options_of_a_search(site: Path) -> None:
    text = (site / "reference" / "python.html").read_text("utf-8")
    assert "Unpack" not in text
    described = set(re.findall(r"<code>(\w+)</code>", text))
    assert set(inspect.signature(pool3.Index.search).parameters) - {"self"} <= described


def test_it_holds_the_pictures_that_pages_show(site: Path) -> None:
    for page in site.rglob("*.html"):
        for source in re.findall(r'<img\b[^>]*\bsrc="([^"]+)"', page.read_text("utf-8")):
            assert source.startswith("data:") or (page.parent / source).is_file(), (page, source)
