"""Every link of every page leads to a file that is there, and to a heading of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import anchors, links, name_of, pages


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name_of(page)} links to {link}"
        if anchor:
            assert anchor in anchors(file), f"{name_of(page)} links to {link}"


def test_a_missing_file_or_heading_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One heading\n[here](#one-heading) [there](other.md) [code `[a](b)`](c.md)\n")
    assert list(links(page)) == ["#one-heading", "other.md", "c.md"]
    assert anchors(page) == {"one-heading"}
