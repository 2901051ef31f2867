"""A hook of mkdocs: links that lead out of ``docs`` work in the site as they do in the repository.

Pages that stand at the root, and pictures elsewhere, join the site. A link to any other file, such
as a module, becomes its text, since the site holds no code.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
PICTURES = ("benchmarks/recall-clustered.png",)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add what lies outside of ``docs``."""
    root = Path(config["config_file_path"]).parent
    for name in (*ROOT_PAGES, *PICTURES):
        files.append(File.generated(config, name, abs_src_path=str(root / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point the links of a page at the site's files."""
    del config
    name = page.file.src_path
    # Where the page lies in the repository; its links are relative to that.
    folder = posixpath.dirname(name if name in ROOT_PAGES else f"docs/{name}")

    def pointed(link: re.Match[str]) -> str:
        picture, text, target, anchor = link.groups(default="")
        if not target or "://" in target:
            return link[0]
        in_repository = posixpath.normpath(posixpath.join(folder, target))
        in_site = in_repository.removeprefix("docs/")
        if in_site == in_repository and in_repository not in (*ROOT_PAGES, *PICTURES):
            return text
        relative = posixpath.relpath(in_site, posixpath.dirname(name) or ".")
        return f"{picture}[{text}]({relative}{anchor})"

    return _LINK.sub(pointed, markdown)
