"""Names that programs import from pool3, and how they call them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pool3
from tests.contract.pinned import check, section
from tests.small_index import build_index

OPERATIONS = ("__len__", "__iter__", "__getitem__", "__repr__")


def test_public_names_and_their_parameters_are_those_on_record(tmp_path: Path) -> None:
    index = pool3.open(build_index(tmp_path / "index", np.eye(4, dtype=np.float32)))
    hits = index.search(np.ones(4, dtype=np.float32), k=2)
    text = section("pool3.__all__", sorted(pool3.__all__))
    text += section("functions", [f"open{_signature(pool3.open)}"])
    for instance in (index, hits, hits[0]):
        text += section(f"class {type(instance).__name__}", _members(instance))
    errors = sorted(name for name in pool3.__all__ if _is_error(getattr(pool3, name)))
    for name in errors:
        text += section(f"error {name}", _error_facts(getattr(pool3, name)))
    check("names.txt", text)


def test_errors_are_classes_of_the_module_that_tasks_name() -> None:
    """A job knows the error of a task by ``pool3.errors.NAME`` in Spark's message."""
    kinds = [kind for kind in map(pool3.__dict__.get, pool3.__all__) if _is_error(kind)]
    assert {kind.__module__ for kind in kinds} == {"pool3.errors"}


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, pool3.Pool3Error)


def _signature(function: Any, *, bound: bool = False) -> str:
    """Return names, kinds and defaults of the parameters, without annotations and self."""
    signature = inspect.signature(function)
    parameters = [
        one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()
    ]
    return str(inspect.Signature(parameters[1:] if bound else parameters))


def _members(instance: Any) -> Iterator[str]:
    """Yield the bases, attributes, properties, methods and operations of one of pool3's objects.

    A constructor is none of them: `pool3.open` and searches make these objects.
    """
    kind = type(instance)
    yield f"bases: {', '.join(base.__name__ for base in kind.__bases__)}"
    own = _own_members(kind)
    for name in sorted(getattr(instance, "__dict__", {})):
        if not name.startswith("_"):
            yield f"attribute {name}"
    for name in getattr(kind, "_fields", ()):
        yield f"field {name}"
    for name, member in sorted(own.items()):
        if isinstance(member, property):
            yield f"property {name}"
    for name, member in sorted(own.items()):
        if inspect.isfunction(member):
            yield f"method {name}{_signature(member, bound=True)}"
    yield f"operations: {', '.join(name for name in OPERATIONS if hasattr(kind, name))}"


def _own_members(kind: type) -> dict[str, Any]:
    """Return the public members that a class has from pool3, by name."""
    own: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.split(".")[0] == "pool3":
            own.update(vars(base))
    return {name: member for name, member in own.items() if not name.startswith("_")}


def _error_facts(kind: Any) -> Iterator[str]:
    yield f"bases: {', '.join(base.__name__ for base in kind.__bases__)}"
    yield f"exit_code: {kind.exit_code}"
    if not inspect.isfunction(kind.__init__):
        return
    yield f"{kind.__name__}{_signature(kind)}"
    required = [
        one
        for one in inspect.signature(kind).parameters.values()
        if one.default is inspect.Parameter.empty
    ]
    for name in sorted(vars(kind(*["text"] * len(required)))):
        yield f"attribute {name}"
