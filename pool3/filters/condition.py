"""Evaluates a ``where`` condition with Arrow's functions over whole columns.

As in SQL, a comparison with null is neither true nor false, and only rows with true pass. Numbers
and times are compared exactly: whole numbers that need 64 unsigned bits as decimals, times as whole
nanoseconds.

Deliberately not here: the language itself (`pool3.filters.parser`).
"""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError
from pool3.filters.columns import Values, column_of, column_path
from pool3.filters.parser import (
    Both,
    Column,
    Comparison,
    Either,
    IsNull,
    Like,
    Literal,
    Membership,
    Not,
    Predicate,
    Tree,
    as_string,
    parse,
)
from pool3.filters.times import NANOSECONDS, nanoseconds, parsed_time

_NUMBER, _TEXT, _TRUTH, _NOTHING = "numbers", "strings", "TRUE or FALSE", "nulls"
_TIME = "dates and times"
_UNSIGNED = pa.decimal128(20, 0)

_COMPARE = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


class Condition:
    """A parsed ``where``.

    Parameters
    ----------
    text
        The condition; `pool3.filters.parser` describes the language.

    Attributes
    ----------
    text : str
        The condition as it was given.

    Raises
    ------
    UsageError
        The condition cannot be parsed.

    Examples
    --------
    >>> rows = pa.table({"image_id": ["a", "b"], "meta.label": ["tram", None]})
    >>> Condition("label = 'tram'").mask(rows, rows.schema)
    array([ True, False])
    """

    def __init__(self, text: str) -> None:
        self._tree = parse(text)
        self.text = text

    def mask(self, rows: pa.Table, declared: pa.Schema) -> npt.NDArray[np.bool_]:
        """Return which rows pass.

        Parameters
        ----------
        rows
            n rows; a column of `declared` that they lack is null.
        declared
            All columns that the condition may name.

        Returns
        -------
        bool, (n,)

        Raises
        ------
        UsageError
            A column is not declared, or is compared with a value of another kind.
        """
        passes = _passes(self._tree, _Rows(rows, declared))
        return np.asarray(pc.fill_null(passes, False).to_numpy())


class _Side(NamedTuple):
    """One side of a comparison: a whole column or one value, of one kind."""

    name: str  # for errors
    kind: str
    values: Values | Literal


class _Rows(NamedTuple):
    rows: pa.Table
    declared: pa.Schema

    def column(self, column: Column) -> Values:
        return column_of(self.rows, self.declared, column.name, argument="where")

    def side(self, operand: Column | Literal) -> _Side:
        if not isinstance(operand, Column):
            return _literal_side(operand)
        return _column_side(operand.name, self.column(operand))

    def require(self, column: Column, other: Column) -> None:
        """Raise `UsageError` for a column that does not exist, with a hint at single quotes.

        Next to another column, a name may have been meant as a string.
        """
        try:
            column_path(self.declared, column.name, argument="where")
        except UsageError as error:
            raise UsageError(
                f"{error}; a string stands in single quotes: "
                f"{other.written} and {as_string(column.written)}"
            ) from None


def _literal_side(value: Literal) -> _Side:
    kind = _TRUTH if isinstance(value, bool) else _TEXT if isinstance(value, str) else _NUMBER
    return _Side(repr(value), kind, value)


def _column_side(name: str, values: Values) -> _Side:
    """Return a column in the type of its kind; numbers as int64 or float64."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind, types = values.type, pa.types
    if types.is_null(kind):
        return _Side(name, _NOTHING, values)
    if types.is_boolean(kind):
        return _Side(name, _TRUTH, values)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _Side(name, _TEXT, values.cast(pa.large_string()))
    if types.is_timestamp(kind) or types.is_date(kind):
        return _Side(name, _TIME, nanoseconds(values))
    if types.is_integer(kind):
        return _Side(name, _NUMBER, values.cast(_UNSIGNED if types.is_uint64(kind) else pa.int64()))
    if types.is_floating(kind) or types.is_decimal(kind):
        return _Side(name, _NUMBER, values.cast(pa.float64(), safe=False))
    raise UsageError(
        "where can compare numbers, strings, dates, times and TRUE or FALSE; found "
        f"{name} of the type {kind}, which only supports IS NULL and IS NOT NULL"
    )


def _passes(tree: Tree, rows: _Rows) -> Values:
    """Return true, false or null for each row."""
    match tree:
        case Both(terms):
            return functools.reduce(pc.and_kleene, (_passes(term, rows) for term in terms))
        case Either(terms):
            return functools.reduce(pc.or_kleene, (_passes(term, rows) for term in terms))
        case Not(term):
            return pc.invert(_passes(term, rows))
        case _:
            return _predicate(tree, rows)


def _predicate(tree: Predicate, rows: _Rows) -> Values:
    match tree:
        case IsNull(column):
            return pc.is_null(rows.column(column))
        case Membership(column, values):
            return _is_in(rows.side(column), values)
        case Like(column, regex):
            return _is_like(rows.side(column), regex)
        case Comparison(operator, left, right):
            if isinstance(left, Column) and isinstance(right, Column):
                rows.require(right, left)
                rows.require(left, right)
            return _compared(operator, rows.side(left), rows.side(right))


def _compared(operator: str, left: _Side, right: _Side) -> Values:
    left, right = _aligned(left, right)
    if _TRUTH in (left.kind, right.kind) and operator not in ("=", "!="):
        raise UsageError(
            f"where can compare {left.name} and {right.name} by = or !=; found {operator}"
        )
    if _NOTHING in (left.kind, right.kind):
        return _nulls(left, right)
    kind = _common_type(left.kind, [left.values, right.values])
    return _COMPARE[operator](_operand(left.values, kind), _operand(right.values, kind))


def _is_in(side: _Side, values: tuple[Literal, ...]) -> Values:
    members = [_aligned(side, _literal_side(value))[1] for value in values]
    if side.kind == _NOTHING:
        return _nulls(side)
    kind = _common_type(side.kind, [side.values, *(member.values for member in members)])
    value_set = pa.array([_operand(member.values, kind).as_py() for member in members], kind)
    column = _operand(side.values, kind)
    if kind == pa.float64():
        # Adding 0 turns -0.0 into 0.0, which is equal but another value for `is_in`.
        column, value_set = pc.add(column, 0.0), pc.add(value_set, 0.0)
    is_member = pc.is_in(column, value_set=value_set)
    return pc.if_else(pc.is_valid(column), is_member, pa.scalar(None, pa.bool_()))


def _is_like(side: _Side, regex: str) -> Values:
    if side.kind == _NOTHING:
        return _nulls(side)
    if side.kind != _TEXT:
        raise UsageError(
            f"where can compare strings with LIKE; found {side.name} ({side.kind}); compare it "
            "with = < > BETWEEN or IN"
        )
    try:
        return pc.match_substring_regex(side.values, regex)
    except pa.ArrowInvalid as error:
        raise UsageError(
            f"where cannot apply the pattern after {side.name} LIKE ({error}); use a shorter one"
        ) from error


def _aligned(left: _Side, right: _Side) -> tuple[_Side, _Side]:
    """Return both sides in one kind: a string next to dates or times is such."""
    left, right = _as_time(left, right), _as_time(right, left)
    if left.kind != right.kind and _NOTHING not in (left.kind, right.kind):
        raise UsageError(
            f"where compares {left.name} ({left.kind}) with {right.name} ({right.kind}); both must "
            "be of one kind, and strings need single quotes"
        )
    return left, right


def _as_time(side: _Side, other: _Side) -> _Side:
    if other.kind == _TIME and isinstance(side.values, str):
        return _Side(side.name, _TIME, parsed_time(side.values))
    return side


def _common_type(kind: str, values: list[Values | Literal]) -> pa.DataType:
    """Return the type in which values of a kind are compared."""
    if kind != _NUMBER:
        return {_TEXT: pa.large_string(), _TIME: NANOSECONDS, _TRUTH: pa.bool_()}[kind]
    types = [value.type if isinstance(value, pa.ChunkedArray) else type(value) for value in values]
    if float in types or pa.float64() in types:
        return pa.float64()
    return _UNSIGNED if _UNSIGNED in types else pa.int64()


def _operand(values: Values | Literal, kind: pa.DataType) -> Any:
    """Return one side of a comparison for Arrow."""
    if isinstance(values, pa.ChunkedArray):
        return values if values.type == kind else values.cast(kind, safe=False)
    if kind == pa.float64():
        return pa.scalar(float(values), kind)
    return pa.scalar(Decimal(values) if pa.types.is_decimal(kind) else values, kind)


def _nulls(*sides: _Side) -> Values:
    rows = max(len(side.values) for side in sides if isinstance(side.values, pa.ChunkedArray))
    return pa.chunked_array([pa.nulls(rows, pa.bool_())])
