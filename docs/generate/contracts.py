"""The table of who may import whom, from import-linter's contracts."""

from __future__ import annotations

from collections.abc import Iterator

from docs.generate.imports import contracts


def contracts_table() -> str:
    """Return a row for each contract: its name, and its layers from top to bottom."""
    rows = ["| contract | what it holds |", "| --- | --- |"]
    rows += [f"| {contract['name']} | {' '.join(_terms(contract))} |" for contract in contracts()]
    return "\n".join(rows)


def _terms(contract: dict[str, object]) -> Iterator[str]:
    kind = contract["type"]
    if kind == "layers":
        layers = contract["layers"]
        assert isinstance(layers, list)  # noqa: S101 - the file's own form
        inside = contract.get("containers")
        yield f"inside {_named(inside)}:" if inside else "packages:"
        yield " → ".join(_layer(layer) for layer in layers)
    elif kind == "forbidden":
        yield f"{_named(contract['source_modules'])} never imports"
        yield _named(contract["forbidden_modules"])
    elif kind == "acyclic_siblings":
        yield f"modules that lie side by side in {_named(contract['ancestors'])} form no circle"
    else:
        yield str(kind)


def _layer(layer: str) -> str:
    """Return the rooms of a layer; of the many mains, that they are the mains."""
    names = [name.strip() for name in layer.split("|")]
    if len(names) > 5:
        return f"{len(names)} mains"
    return ", ".join(f"`{name}`" for name in names)


def _named(names: object) -> str:
    return ", ".join(f"`{name}`" for name in names) if isinstance(names, list) else f"`{names}`"
