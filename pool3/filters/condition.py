"""Evaluates a ``where`` condition with Arrow's functions over whole columns.

As in SQL, a comparison with null is neither true nor false, and only rows with true pass.

Deliberately not here: the language itself (`pool3.filters.parser`).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError
from pool3.filters.columns import Values, column_of
from pool3.filters.parser import (
    Both,
    Column,
    Comparison,
    Either,
    IsNull,
    Literal,
    Membership,
    Not,
    Tree,
    parse,
)

_NUMBER, _TEXT, _TRUTH, _NOTHING = "numbers", "strings", "TRUE or FALSE", "nulls"

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
            return _Side(repr(operand), _literal_kind(operand), operand)
        return _column_side(operand.name, self.column(operand))


def _literal_kind(value: Literal) -> str:
    if isinstance(value, bool):
        return _TRUTH
    return _TEXT if isinstance(value, str) else _NUMBER


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
    if types.is_integer(kind) and not types.is_uint64(kind):
        return _Side(name, _NUMBER, values.cast(pa.int64()))
    if types.is_uint64(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return _Side(name, _NUMBER, values.cast(pa.float64(), safe=False))
    raise UsageError(
        f"where can compare numbers, strings and TRUE or FALSE; found {name} of the type {kind}, "
        "which only supports IS NULL and IS NOT NULL"
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
        case IsNull(column):
            return pc.is_null(rows.column(column))
        case Membership(column, values):
            return _is_in(rows.side(column), values)
        case Comparison(operator, left, right):
            return _compared(operator, rows.side(left), rows.side(right))


def _compared(operator: str, left: _Side, right: _Side) -> Values:
    _check_kinds(left, right)
    if _TRUTH in (left.kind, right.kind) and operator not in ("=", "!="):
        raise UsageError(
            f"where can compare {left.name} and {right.name} by = or !=; found {operator}"
        )
    if _NOTHING in (left.kind, right.kind):
        return _nulls(left, right)
    floats = any(_is_float(side.values) for side in (left, right))
    return _COMPARE[operator](_operand(left, floats), _operand(right, floats))


def _is_in(side: _Side, values: tuple[Literal, ...]) -> Values:
    for value in values:
        _check_kinds(side, _Side(repr(value), _literal_kind(value), value))
    if side.kind == _NOTHING:
        return _nulls(side)
    floats = any(_is_float(number) for number in (side.values, *values))
    # Adding 0 turns -0.0 into 0.0, which is equal but another value for `is_in`.
    column = pc.add(_operand(side, True), 0.0) if floats else _operand(side, False)
    members = [float(value) + 0.0 if floats else value for value in values]
    is_member = pc.is_in(column, value_set=pa.array(members, column.type))
    return pc.if_else(pc.is_valid(column), is_member, pa.scalar(None, pa.bool_()))


def _check_kinds(left: _Side, right: _Side) -> None:
    if left.kind != right.kind and _NOTHING not in (left.kind, right.kind):
        raise UsageError(
            f"where compares {left.name} ({left.kind}) with {right.name} ({right.kind}); both must "
            "be of one kind, and strings need single quotes"
        )


def _is_float(values: Values | Literal) -> bool:
    if isinstance(values, pa.ChunkedArray):
        return bool(pa.types.is_floating(values.type))
    return isinstance(values, float)


def _operand(side: _Side, floats: bool) -> Any:
    """Return the operand for Arrow: numbers as float64 if one of them is."""
    if isinstance(side.values, pa.ChunkedArray):
        return side.values.cast(pa.float64(), safe=False) if floats else side.values
    if side.kind == _TEXT:
        return pa.scalar(side.values, pa.large_string())
    return pa.scalar(float(side.values) if floats else side.values)


def _nulls(*sides: _Side) -> Values:
    rows = max(len(side.values) for side in sides if isinstance(side.values, pa.ChunkedArray))
    return pa.chunked_array([pa.nulls(rows, pa.bool_())])
