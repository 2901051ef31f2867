"""JSON objects read field by field; each field is checked, and an error names the field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pool3.errors import InvalidIndex

Value = TypeVar("Value")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MISSING = object()


def parse_object(data: bytes, where: str) -> Fields:
    """Parse bytes that must be one JSON object.

    Parameters
    ----------
    data
        UTF-8 JSON.
    where
        The uri that the bytes came from, for errors.

    Raises
    ------
    InvalidIndex
        When they are anything else.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidIndex(f"{where} is not JSON: {error}") from error
    return Fields(value, where)


class Fields:
    """One JSON object that is read field by field.

    A field that was not read is an error too (`finish`): a later release wrote it, and ignoring it
    (tombstones, for instance) would give wrong answers.

    Parameters
    ----------
    value
        A value of parsed JSON.
    where
        Its place in the file, for errors.

    Raises
    ------
    InvalidIndex
        Also by all methods, when a field is missing or not of the expected kind.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidIndex(f"{where} must be a JSON object; found {_shown(value)}")
        self.where = where
        self._value: dict[str, Any] = value
        self._read: set[str] = set()

    def _take(self, name: str) -> Any:
        self._read.add(name)
        return self._value.get(name, _MISSING)

    def _wrong(self, name: str, expected: str) -> InvalidIndex:
        value = self._value.get(name, _MISSING)
        shown = "nothing" if value is _MISSING else _shown(value)
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
        """Return a finite, non-negative number."""
        value = self._take(name)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not 0 <= value < float("inf"):
            raise self._wrong(name, "a number that is not negative")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """Return a finite, non-negative number, or None for null."""
        return None if self._take(name) is None else self.number(name)

    def integers(self, name: str, *, at_least: int = 0) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        value = self._take(name)
        if not isinstance(value, list) or not all(
            isinstance(number, int) and not isinstance(number, bool) and number >= at_least
            for number in value
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

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """Return a string, one of those that are allowed."""
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
        """Return a path below the index's root; one that leads out of it is an error."""
        value = self.text(name)
        segments = value.split("/")
        if not segments[0] or {"", ".", ".."} & set(segments) or {"\\", "\0"} & set(value):
            raise self._wrong(name, "a relative path that stays inside the index")
        if ":" in segments[0]:
            raise self._wrong(name, "a relative path without a scheme")
        return value

    def inner(self, name: str) -> Fields:
        """Return a nested object."""
        return Fields(self._take(name), f"{name!r} in {self.where}")

    def optional_inner(self, name: str, read: Callable[[Fields], Value]) -> Value | None:
        """Return a nested object, converted by `read`, or None for null."""
        return None if self._take(name) is None else read(self.inner(name))

    def each(self, name: str, read: Callable[[Fields], Value]) -> tuple[Value, ...]:
        """Return the objects of a list, each converted by `read`."""
        value = self._take(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return tuple(
            read(Fields(inner, f"{name}[{position}] in {self.where}"))
            for position, inner in enumerate(value)
        )

    def mapping(self, name: str, read: Callable[[Fields, str], Value]) -> Mapping[str, Value]:
        """Return the values of a nested object by key, each read by ``read(fields, key)``."""
        inner = self.inner(name)
        return {key: read(inner, key) for key in sorted(inner._value)}

    def finish(self, result: Value) -> Value:
        """Return `result`, or raise where the object has a field that was not read."""
        unknown = sorted(set(self._value) - self._read)
        if unknown:
            raise InvalidIndex(
                f"{self.where} has a field {unknown[0]!r} that this release does not know; "
                "a newer pool3 wrote it: open the index with that release"
            )
        return result


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
