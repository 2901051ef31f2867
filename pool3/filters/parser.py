"""Parses a ``where`` condition into a tree.

The language has comparisons (``=  !=  <>  <  <=  >  >=``), ``IN (...)``, ``IS NULL``, ``AND``,
``OR``, ``NOT`` and parentheses, over columns, numbers, ``'strings'`` (with quotes doubled),
``TRUE`` and ``FALSE``. A column name that is not a plain word needs double quotes. Nothing is
evaluated as code, and the length and depth of a condition are limited.

Deliberately not here: the columns and their values (`pool3.filters.condition`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pool3.errors import UsageError

MAX_LENGTH = 10_000
MAX_DEPTH = 50

Literal: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Column:
    """A column, by the name in the condition."""

    name: str


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


Tree: TypeAlias = Comparison | Membership | IsNull | Not | Both | Either

_COMPARISONS = ("=", "!=", "<>", "<", "<=", ">", ">=")
_KEYWORDS = ("AND", "OR", "NOT", "IN", "IS", "NULL", "TRUE", "FALSE")

_TOKEN = re.compile(
    r"""(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>'(?:[^']|'')*')
    | (?P<name>"(?:[^"]|"")+")
    | (?P<word>[^\W\d]\w*(?:\.[^\W\d]\w*)*)
    | (?P<symbol><=|>=|<>|!=|=|<|>|\(|\)|,)""",
    re.VERBOSE,
)


class _Token(NamedTuple):
    kind: str  # a group of _TOKEN, or "keyword", or "end" after the last token
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
            quote = " (its closing quote is missing)" if text[at] in "'\"" else ""
            raise UsageError(
                f"where cannot be read from {text[at : at + 20]!r}{quote}, character {at + 1}, on"
            )
        kind, token = match.lastgroup, match.group()
        if kind == "word" and token.upper() in _KEYWORDS:
            kind, token = "keyword", token.upper()
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
        if token.kind not in ("keyword", "symbol") or token.text != text:
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._took(text):
            raise self._unexpected(text)

    def _unexpected(self, expected: str) -> UsageError:
        token = self._next
        return UsageError(
            f"where must have {expected} at character {token.start + 1}; found {token.text}"
        )

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
            if self._took("IN"):
                tree = Membership(left, self._values())
                return Not(tree) if negated else tree
            if negated:
                raise self._unexpected("IN")
        return self._comparison(left)

    def _comparison(self, left: Column | Literal) -> Comparison:
        start, operator = self._next.start, self._next.text
        if self._next.kind != "symbol" or operator not in _COMPARISONS:
            raise self._unexpected(f"one of {' '.join(_COMPARISONS)}, IN or IS")
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
        if kind == "word":
            value = Column(text)
        elif kind == "name":
            value = Column(text[1:-1].replace('""', '"'))
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


def _number(text: str) -> int | float:
    whole = text.lstrip("+-").isdecimal()
    if whole and len(text) <= 20 and -(2**63) <= int(text) < 2**63:
        return int(text)
    if whole or not math.isfinite(float(text)):
        raise UsageError(f"a number in where must fit 64 bits; found {text:.40}")
    return float(text)
