"""Options of a command line as its parser holds them, one line each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

_PLAIN_TYPES = (int, float, str, Path)


def options_text(parser: argparse.ArgumentParser) -> str:
    """Return a line for each option; those of sub-commands are not part of it."""
    actions = [action for action in parser._actions if not _is_help(action)]
    lines = ["  ".join(_facts(action)) for action in actions]
    groups = [
        f"one of {', '.join(action.dest for action in group._group_actions)}"
        for group in parser._mutually_exclusive_groups
    ]
    return "".join(f"{line}\n" for line in [*lines, *groups])


def sub_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands that a parser has, by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(action.choices)
    return found


def _is_help(action: argparse.Action) -> bool:
    return isinstance(action, argparse._HelpAction)


def _facts(action: argparse.Action) -> Iterator[str]:
    """Yield what the parser does with an option; what is as usual is left out."""
    yield ", ".join(action.option_strings) or f"({action.dest})"
    yield f"dest={action.dest}"
    if action.required:
        yield "required"
    if isinstance(action, argparse._AppendAction):
        yield "repeatable"
    if action.type is not None:
        yield f"type={_type_name(action.type)}"
    if action.choices is not None:
        yield f"choices={','.join(map(str, action.choices))}"
    for name in ("nargs", "const", "metavar"):
        if getattr(action, name) is not None:
            yield f"{name}={getattr(action, name)!r}"
    yield f"default={action.default!r}"


def _type_name(kind: object) -> str:
    """Name a type; how functions of the project's own are called is its own affair."""
    return kind.__name__ if isinstance(kind, type) and kind in _PLAIN_TYPES else "(a function)"
