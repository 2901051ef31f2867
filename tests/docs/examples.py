"""The examples of a page as files of the project: written beside it, and imported from there."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import blocks

_FILE = re.compile(r"^# ([\w/]+\.py)\n")


def files_of(page: Path) -> dict[str, str]:
    """Return the code blocks that name their file in the first line, by that name."""
    texts = blocks(page, "python")
    return {match[1]: text for text in texts if (match := _FILE.match(text))}


def snippets_of(page: Path) -> list[str]:
    """Return the other code blocks."""
    return [text for text in blocks(page, "python") if not _FILE.match(text)]


@contextmanager
def installed(files: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Let the packages of the project have some more modules, for as long as the block runs."""
    modules = [name.removesuffix(".py").replace("/", ".") for name in files]
    with pytest.MonkeyPatch.context() as patch:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            package = import_module(".".join(name.split("/")[:-1]))
            patch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
        try:
            yield
        finally:
            for module in modules:
                sys.modules.pop(module, None)


def functions_of(name: str, text: str) -> dict[str, Callable[..., None]]:
    """Run a module of tests; returns its test functions by name."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile(text, name, "exec"), names)
    return {key: value for key, value in names.items() if key.startswith("test_")}


def run_tests(name: str, text: str, fixtures: Mapping[str, Any]) -> int:
    """Run the test functions of a module with the fixtures that they name; returns how many."""
    functions = functions_of(name, text)
    for function in functions.values():
        function(**{key: fixtures[key] for key in inspect.signature(function).parameters})
    return len(functions)
