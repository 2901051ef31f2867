"""Reading JSON objects whose every field is checked, so that an error can name the offender."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pool3.errors import InvalidIndex

Made = TypeVar("Made")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MISSING = object()


def parse_object(data: bytes, where: str) -> Fields:
    """Parse bytes that must be one JSON object.

    Parameters
    ----------
    data
        UTF-8 JSON.
    where
        What an error names: the uri that the bytes came from.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidIndex(f"{where} is not JSON: {error}") from error
    return Fields(value, where)


class Fields:
    """One JSON object, taken apart field by field.

    A field that nobody asked for is an error too (`finish`): it was written by a release that
    means something by it, tombstones for instance, and leaving it out would give wrong answers.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidIndex(f"{where} must be a JSON object; found {_shown(value)}")
        self.where = where
        self._value: dict[str, Any] = value
        self._asked: set[str] = set()

    def _take(self, name: str) -> Any:
        self._asked.add(name)
        return self._value.get(name, _MISSING)

    def _wrong(self, name: str, expected: str) -> InvalidIndex:
        found = self._value.get(name, _MISSING)
        shown = "nothing" if found is _MISSING else _shown(found)
        return InvalidIndex(f"{name!r} in {self.where} must be {expected}; found {shown}")

    def integer(self, name: str, *, at_least: int = 0) -> int:
        """Return a whole number."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise self._wrong(name, f"a whole number of at least {at_least}")
        return value

    def optional_integer(self, name: str, *, at_least: int = 0) -> int | None:
        """Return a whole number, or None for null."""
        return None if self._take(name) is None else self.integer(name, at_least=at_least)

    def number(self, name: str) -> float:
        """Return a finite number that is not negative."""
        value = self._take(name)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not 0 <= value < float("inf"):
            raise self._wrong(name, "a number that is not negative")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """Return a finite number that is not negative, or None for null."""
        return None if self._take(name) is None else self.number(name)

    def integers(self, name: str, *, at_least: int = 0) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        value = self._take(name)
        if not isinstance(value, list) or not all(
            isinstance(item, int) and not isinstance(item, bool) and item >= at_least
            for item in value
        ):
            raise self._wrong(name, f"a list of whole numbers of at least {at_least}")
        return tuple(value)

    def text(self, name: str) -> str:
        """Return a string that is not empty."""
        value = self._take(name)
        if not isinstance(value, str) or not value:
            raise self._wrong(name, "a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None for null."""
        return None if self._take(name) is None else self.text(name)

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        """Return one of several strings."""
        value = self._take(name)
        if value not in allowed:
            raise self._wrong(name, f"one of {', '.join(allowed)}")
        return str(value)

    def sha256(self, name: str) -> str:
        """Return a lower-case hexadecimal SHA-256."""
        value = self.text(name)
        if not _SHA256.fullmatch(value):
            raise self._wrong(name, "a SHA-256 in lower-case hexadecimal digits")
        return value

    def relative_path(self, name: str) -> str:
        """Return a path below the index's root, and refuse any that leads out of it."""
        value = self.text(name)
        parts = value.split("/")
        if not parts[0] or {"", ".", ".."} & set(parts) or {"\\", "\0"} & set(value):
            raise self._wrong(name, "a relative path that stays inside the index")
        if ":" in parts[0]:
            raise self._wrong(name, "a relative path without a scheme")
        return value

    def inner(self, name: str) -> Fields:
        """Return a nested object."""
        return Fields(self._take(name), f"{name!r} in {self.where}")

    def optional_inner(self, name: str, make: Callable[[Fields], Made]) -> Made | None:
        """Return what `make` makes of a nested object, or None for null."""
        return None if self._take(name) is None else make(self.inner(name))

    def each(self, name: str, make: Callable[[Fields], Made]) -> tuple[Made, ...]:
        """Return what `make` makes of each object in a list."""
        value = self._take(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return tuple(
            make(Fields(item, f"{name}[{position}] in {self.where}"))
            for position, item in enumerate(value)
        )

    def mapping(self, name: str, make: Callable[[Fields, str], Made]) -> Mapping[str, Made]:
        """Return a nested object's values, each read by `make(fields, key)`."""
        inner = self.inner(name)
        return {key: make(inner, key) for key in sorted(inner._value)}

    def finish(self) -> None:
        """Refuse fields that nobody asked for."""
        unknown = sorted(set(self._value) - self._asked)
        if unknown:
            raise InvalidIndex(
                f"{self.where} has a field {unknown[0]!r} that this release does not know; "
                "a newer pool3 wrote it, and that one can read it"
            )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
