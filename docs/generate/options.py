"""Pages of the options of jobs and commands, from their parsers."""

from __future__ import annotations

import argparse
import ast
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from docs.generate.imports import REPOSITORY

SUBMIT = """\
`./submit.sh [--profile NAME] JOB [options]` runs a job with `spark-submit`. How the jobs work
together is in [pipelines](../../pipelines.md), and what they write in [formats](../../formats.md).
"""
NOTE = "<!-- Generated from the parser by `make docs-generate`; edit the option's help instead. -->"


def job_names() -> list[str]:
    """Return the jobs, as ``submit.sh`` names them."""
    files = (REPOSITORY / "jobs").glob("[a-z]*.py")
    return sorted(file.stem.replace("_", "-") for file in files)


def job_page(job: str) -> str:
    """Return the page of a job."""
    module = _imported(f"jobs.{job.replace('-', '_')}")
    parser: argparse.ArgumentParser = module.arg_parser()
    return _page([f"# {job}", NOTE, *_parser_text(parser)])


def jobs_page() -> str:
    """Return the list of the jobs: a line each, as the first line of each main says."""
    rows = ["| job | what it does |", "| --- | --- |"]
    for job in job_names():
        text = _first_line(job)
        rows.append(f"| [{job}]({job}.md) | {_cell(text.partition(': ')[2])} |")
    note = "<!-- Generated from the jobs by `make docs-generate`. -->"
    return _page(["# Jobs", note, SUBMIT, "\n".join(rows)])


def command_page() -> str:
    """Return the page of ``pool3`` and its commands."""
    parser: argparse.ArgumentParser = _imported("pool3.cli.parser").arg_parser()
    texts = ["# The pool3 command", NOTE, *_parser_text(parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                texts += [f"## pool3 {name}", *_parser_text(command)]
    return _page(texts)


def _first_line(job: str) -> str:
    """Return the first line of a main's docstring, which ``submit.sh --help`` shows too."""
    source = (REPOSITORY / "jobs" / f"{job.replace('-', '_')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def _imported(module: str) -> Any:
    if str(REPOSITORY) not in sys.path:
        sys.path.insert(0, str(REPOSITORY))
    return import_module(module)


def _page(texts: list[str]) -> str:
    return "\n\n".join(text.strip("\n") for text in texts if text) + "\n"


def _parser_text(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield parser.description or ""
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    lines = textwrap.fill(usage, 96, subsequent_indent="    ", break_on_hyphens=False)
    yield f"```text\n{lines}\n```"
    rows = [row for action in parser._actions for row in _rows(parser, action)]
    if rows:
        yield "\n".join(["| option | default | what it does |", "| --- | --- | --- |", *rows])
    if parser.epilog:
        yield f"```text\n{parser.epilog.strip()}\n```"


def _rows(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    """Yield the row of an option; help and sub-commands have none."""
    if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
        return
    help_text = parser._get_formatter()._expand_help(action) if action.help else ""
    yield f"| {_name(action)} | {_default(action)} | {_cell(help_text)} |"


def _name(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return f"`{value}`"
    values = f" {value}" if value else ""
    names = ", ".join(f"`{name}{values}`" for name in action.option_strings)
    return names.replace("|", "\\|")


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _default(action: argparse.Action) -> str:
    if action.required:
        return "required"
    nothing = action.default in (None, False, (), [], argparse.SUPPRESS)
    return "" if nothing else f"`{action.default}`"


def _cell(text: str) -> str:
    """Return text for a cell of a table: on one line, and with nothing that Markdown reads."""
    one_line = " ".join(text.split())
    for character in ("\\", "|", "<", "*", "_", "`"):
        one_line = one_line.replace(character, f"\\{character}")
    return one_line
