"""Parses a ``where`` condition into a tree.

The language has comparisons (``=  !=  <>  <  <=  >  >=``), ``BETWEEN low AND high``, ``IN (...)``,
``LIKE 'pattern' ESCAPE 'character'``, ``IS NULL``, ``AND``, ``OR``, ``NOT`` and parentheses, over
columns, numbers, ``'strings'`` (with quotes doubled), ``TRUE`` and ``FALSE``. Dates and times are
compared with strings in ISO 8601. Any name of a column may stand in double quotes or backticks
(doubled inside of it), and one that is not a plain word must: ``meta."odd name"``. Nothing is
evaluated as code, and the length and depth of a condition are limited.

Deliberately not here: the columns and their values (`pool3.filters.condition`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from pool3.errors import UsageError

MAX_LENGTH = 10_000
MAX_DEPTH = 50

Literal: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Column:
    """A column, by the name in the condition, and the name as it was written, quotes included."""

    name: str
    written: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Comparison:
    """``left operator right``; at least one side is a column, and the operator is never ``<>``."""

    operator: str
    left: Column | Literal
    right: Column | Literal


@dataclass(frozen=True)
class Membership:
    """``column IN (values)``; at least one value."""

    column: Column
    values: tuple[Literal, ...]


@dataclass(frozen=True)
class Like:
    """``column LIKE pattern``; the pattern as a regular expression over the whole text."""

    column: Column
    regex: str


@dataclass(frozen=True)
class IsNull:
    """``column IS NULL``."""

    column: Column


@dataclass(frozen=True)
class Not:
    """``NOT term``."""

    term: Tree


@dataclass(frozen=True)
class Both:
    """``term AND term AND ...``."""

    terms: tuple[Tree, ...]


@dataclass(frozen=True)
class Either:
    """``term OR term OR ...``."""

    terms: tuple[Tree, ...]


Predicate: TypeAlias = Comparison | Membership | Like | IsNull
Tree: TypeAlias = Predicate | Not | Both | Either

_COMPARISONS = ("=", "!=", "<>", "<", "<=", ">", ">=")
_KEYWORDS = ("AND", "OR", "NOT", "IN", "IS", "NULL", "TRUE", "FALSE")
# Keywords only after an operand, so that columns with these names need no quotes.
_AFTER_OPERANDS = ("LIKE", "ESCAPE", "BETWEEN")
_BEFORE_STRINGS = ("(", ",", "LIKE", "ESCAPE")

_SEGMENT = r"""(?: [^\W\d]\w* | "(?:[^"]|"")*" | `(?:[^`]|``)*` )"""
_TOKEN = re.compile(
    rf"""(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>'(?:[^']|'')*')
    | (?P<word>{_SEGMENT}(?:\.{_SEGMENT})*)
    | (?P<symbol><=|>=|<>|!=|=|<|>|\(|\)|,)""",
    re.VERBOSE,
)
_SEGMENTS = re.compile(_SEGMENT, re.VERBOSE)


class _Token(NamedTuple):
    kind: (
        str  # a group of _TOKEN, "name" for a quoted word, "keyword", or "end" after the last token
    )
    text: str  # keywords in upper case
    start: int


def parse(text: str) -> Tree:
    """Parse a condition.

    Parameters
    ----------
    text
        At most `MAX_LENGTH` characters, nested at most `MAX_DEPTH` deep.

    Raises
    ------
    UsageError
        The text is not a condition; the error names the character.

    Examples
    --------
    >>> parse("width > 400")
    Comparison(operator='>', left=Column(name='width'), right=400)
    """
    if not isinstance(text, str):
        raise UsageError(f"where must be a string; found {text!r}")
    if len(text) > MAX_LENGTH:
        raise UsageError(f"where must have at most {MAX_LENGTH} characters; found {len(text)}")
    return _Parser(text).whole()


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            quote = " (its closing quote is missing)" if text[at] in "'\"`" else ""
            raise UsageError(
                f"where cannot be read from {text[at : at + 20]!r}{quote}, character {at + 1}, on"
            )
        kind, token = match.lastgroup, match.group()
        if kind == "word" and token.upper() in _KEYWORDS:
            kind, token = "keyword", token.upper()
        elif kind == "word" and ('"' in token or "`" in token):
            kind = "name"
        tokens.append(_Token(kind, token, at))
        at = match.end()
    return [*tokens, _Token("end", "the end", at)]


class _Parser:
    """A recursive-descent parser; each method reads one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _took(self, text: str) -> bool:
        """Read a keyword or symbol if it is the next token; return whether it is."""
        token = self._next
        if token.kind == "word" and token.text.upper() in _AFTER_OPERANDS:
            took = token.text.upper() == text
        else:
            took = token.kind in ("keyword", "symbol") and token.text == text
        self._at += took
        return took

    def _expect(self, text: str) -> None:
        if not self._took(text):
            raise self._unexpected(text)

    def _unexpected(self, expected: str) -> UsageError:
        token = self._next
        return UsageError(
            f"where must have {expected} at character {token.start + 1}; found {token.text}"
            f"{self._hint()}"
        )

    def _hint(self) -> str:
        """Return how to write the next token as a string, if it may have been meant as one."""
        token, before = self._next, self._tokens[self._at - 1]
        if token.kind in ("word", "name") and before.text.upper() in _BEFORE_STRINGS:
            return f", a column; a string stands in single quotes: {as_string(token.text)}"
        if token.kind == "number" and before.kind == "number":
            return "; a date or time stands in single quotes"
        return ""

    def whole(self) -> Tree:
        tree = self._either()
        if self._next.kind != "end":
            raise self._unexpected("AND, OR or the end")
        return tree

    def _either(self) -> Tree:
        terms = self._joined("OR", self._both)
        return terms[0] if len(terms) == 1 else Either(terms)

    def _both(self) -> Tree:
        terms = self._joined("AND", self._single)
        return terms[0] if len(terms) == 1 else Both(terms)

    def _joined(self, word: str, read_term: Callable[[], Tree]) -> tuple[Tree, ...]:
        terms = [read_term()]
        while self._took(word):
            terms.append(read_term())
        return tuple(terms)

    def _single(self) -> Tree:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UsageError(f"where must be nested at most {MAX_DEPTH} deep")
        if self._took("NOT"):
            tree: Tree = Not(self._single())
        elif self._took("("):
            tree = self._either()
            self._expect(")")
        else:
            tree = self._predicate()
        self._depth -= 1
        return tree

    def _predicate(self) -> Tree:
        left = self._operand()
        if isinstance(left, Column):
            if self._took("IS"):
                negated = self._took("NOT")
                self._expect("NULL")
                return Not(IsNull(left)) if negated else IsNull(left)
            negated = self._took("NOT")
            tree = self._tested(left)
            if tree is not None:
                return Not(tree) if negated else tree
            if negated:
                raise self._unexpected("IN, LIKE or BETWEEN")
        return self._comparison(left)

    def _tested(self, column: Column) -> Tree | None:
        """Read one of the tests that a NOT may stand before; None if there is none."""
        if self._took("IN"):
            return Membership(column, self._values())
        if self._took("LIKE"):
            return Like(column, self._pattern())
        if self._took("BETWEEN"):
            low = self._operand()
            self._expect("AND")
            return Both((Comparison(">=", column, low), Comparison("<=", column, self._operand())))
        return None

    def _pattern(self) -> str:
        start, pattern = self._next.start, self._string("a 'pattern'")
        escape = self._string("a 'character'") if self._took("ESCAPE") else "\\"
        if len(escape) != 1:
            raise UsageError(f"where must have one character after ESCAPE; found {escape!r}")
        try:
            return like_regex(pattern, escape)
        except ValueError as error:
            raise UsageError(
                f"where cannot read the pattern {pattern!r} at character {start + 1}: {error}"
            ) from error

    def _string(self, expected: str) -> str:
        value = self._operand() if self._next.kind == "string" else None
        if not isinstance(value, str):
            raise self._unexpected(expected)
        return value

    def _comparison(self, left: Column | Literal) -> Comparison:
        start, operator = self._next.start, self._next.text
        if self._next.kind != "symbol" or operator not in _COMPARISONS:
            raise self._unexpected(f"one of {' '.join(_COMPARISONS)}, BETWEEN, IN, IS or LIKE")
        self._at += 1
        right = self._operand()
        if not isinstance(left, Column) and not isinstance(right, Column):
            raise UsageError(f"where must name a column next to the {operator} at {start + 1}")
        return Comparison("!=" if operator == "<>" else operator, left, right)

    def _values(self) -> tuple[Literal, ...]:
        self._expect("(")
        values: list[Literal] = []
        while not values or self._took(","):
            value = self._operand()
            if isinstance(value, Column):
                self._at -= 1
                raise self._unexpected("a number or a 'string'")
            values.append(value)
        self._expect(")")
        return tuple(values)

    def _operand(self) -> Column | Literal:
        kind, text, _ = self._next
        value: Column | Literal
        if kind in ("word", "name"):
            value = Column(_name(text), text)
        elif kind == "string":
            value = text[1:-1].replace("''", "'")
        elif kind == "number":
            value = _number(text)
        elif text in ("TRUE", "FALSE") and kind == "keyword":
            value = text == "TRUE"
        elif text == "NULL" and kind == "keyword":
            raise self._unexpected("a value (for NULL write IS NULL)")
        else:
            raise self._unexpected("a column, a number or a 'string'")
        self._at += 1
        return value


def as_string(written: str) -> str:
    """Return the name of a column, as it was written, as a string of the language.

    Examples
    --------
    >>> as_string('"Banana"')
    "'Banana'"
    """
    return "'" + _name(written).replace("'", "''") + "'"


def _name(written: str) -> str:
    return ".".join(_unquoted(segment) for segment in _SEGMENTS.findall(written))


def _unquoted(segment: str) -> str:
    quote = segment[0]
    return segment[1:-1].replace(quote * 2, quote) if quote in '"`' else segment


def like_regex(pattern: str, escape: str) -> str:
    r"""Translate a pattern of LIKE to a regular expression over the whole text.

    Parameters
    ----------
    pattern
        ``%`` matches any text, ``_`` one character.
    escape
        The character before a ``%``, a ``_`` or itself that is meant literally.

    Raises
    ------
    ValueError
        The escape character stands before another character or at the end.

    Examples
    --------
    >>> like_regex("50!%_", "!")
    '\\A(?s:50%.)\\z'
    """
    translated = []
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            literal = next(characters, "")
            if literal not in ("%", "_", escape):
                raise ValueError(
                    f"the escape character {escape} must stand before %, _ or itself; found "
                    f"{literal or 'the end'} after it"
                )
            translated.append(_literally(literal))
        else:
            translated.append({"%": ".*", "_": "."}.get(character) or _literally(character))
    return rf"\A(?s:{''.join(translated)})\z"


def _literally(character: str) -> str:
    """Return a character in RE2's syntax, whose escapes are for ASCII punctuation only."""
    if character == "\0":
        return r"\x00"
    return re.escape(character) if character in r"\.+*?()|[]{}^$" else character


def _number(text: str) -> int | float:
    whole = text.lstrip("+-").isdecimal()
    if whole and len(text) <= 20 and -(2**63) <= int(text) < 2**63:
        return int(text)
    if whole or not math.isfinite(float(text)):
        raise UsageError(f"a number in where must fit 64 bits; found {text:.40}")
    return float(text)
