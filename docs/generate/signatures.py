"""An extension of griffe: options that a function takes as ``**options`` stand in its signature.

Their names and defaults are those that `help` shows, `inspect.signature` of the function.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import griffe


class SpelledOutOptions(griffe.Extension):
    """Replaces ``**options: Unpack[…]`` of methods by the keywords that it means."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Look through the methods of a class."""
        for function in cls.functions.values():
            if any("Unpack[" in str(parameter.annotation) for parameter in function.parameters):
                _spell_out(function, _keywords(cls, function.name))


def _keywords(cls: griffe.Class, name: str) -> list[inspect.Parameter]:
    """Return the keywords of a method as the code that runs has them."""
    method = getattr(getattr(import_module(cls.module.path), cls.name), name)
    parameters = inspect.signature(method).parameters.values()
    return [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _spell_out(function: griffe.Function, keywords: list[inspect.Parameter]) -> None:
    own = [
        parameter
        for parameter in function.parameters
        if parameter.kind is not griffe.ParameterKind.var_keyword
    ]
    names = {parameter.name for parameter in own}
    options = [
        griffe.Parameter(
            keyword.name,
            annotation=inspect.formatannotation(keyword.annotation).replace("collections.abc.", ""),
            kind=griffe.ParameterKind.keyword_only,
            default=repr(keyword.default),
        )
        for keyword in keywords
        if keyword.name not in names
    ]
    function.parameters = griffe.Parameters(*own, *options)
