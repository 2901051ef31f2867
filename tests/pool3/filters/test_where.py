from __future__ import annotations

import datetime
import sqlite3

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.filters.condition import Condition
from pool3.filters.parser import MAX_DEPTH, MAX_LENGTH, parse

WHOLE = st.one_of(st.integers(-3, 3), st.sampled_from([2**62 + 1, -(2**62)]))
REAL = st.sampled_from([-1.5, -0.0, 0.0, 0.1, 1.0, 2.5, 1e300])
TEXT = st.sampled_from(["", "a", "b", "it's", "B", "é", "\N{GRINNING FACE}", "\uffee"])
LITERALS = {"whole": WHOLE | REAL, "real": WHOLE | REAL, "text": TEXT, "truth": st.booleans()}
OPERATORS = st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">="])


def rows_of(whole, real, text, truth) -> pa.Table:
    return pa.table(
        {
            "whole": pa.array(whole, pa.int64()),
            "real": pa.array(real, pa.float64()),
            "text": pa.array(text, pa.string()),
            "truth": pa.array(truth, pa.bool_()),
        }
    )


@st.composite
def tables(draw) -> pa.Table:
    n_rows = draw(st.integers(0, 8))

    def column(values):
        return draw(st.lists(st.none() | values, min_size=n_rows, max_size=n_rows))

    return rows_of(column(WHOLE), column(REAL), column(TEXT), column(st.booleans()))


def written(value) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


@st.composite
def predicates(draw) -> str:
    column = draw(st.sampled_from(sorted(LITERALS)))
    literal = LITERALS[column].map(written)
    match draw(st.sampled_from(["compared", "turned", "columns", "in", "null"])):
        case "compared":
            operators = st.sampled_from(["=", "!="]) if column == "truth" else OPERATORS
            return f"{column} {draw(operators)} {draw(literal)}"
        case "turned":
            operators = st.sampled_from(["=", "<>"]) if column == "truth" else OPERATORS
            return f"{draw(literal)}{draw(operators)}{column}"
        case "columns":
            return f"whole {draw(OPERATORS)} real"
        case "in":
            values = ", ".join(draw(st.lists(literal, min_size=1, max_size=4)))
            return f"{column} {draw(st.sampled_from(['IN', 'not in']))} ({values})"
    return f"{column} {draw(st.sampled_from(['IS NULL', 'is not null']))}"


CONDITIONS = st.recursive(
    predicates(),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("({0[0]}) AND ({0[1]})".format),
        st.tuples(inner, inner).map("{0[0]} OR {0[1]}".format),
        inner.map("NOT ({})".format),
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(tables(), CONDITIONS)
def test_the_same_rows_pass_as_in_sqlite(rows, condition):
    """Null is neither true nor false there too, strings compare by code points, numbers exactly."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE rows (n, whole, real, text, truth)")
    database.executemany(
        "INSERT INTO rows VALUES (?, ?, ?, ?, ?)",
        [(n, *row.values()) for n, row in enumerate(rows.to_pylist())],
    )
    result = database.execute(f"SELECT n FROM rows WHERE {condition} ORDER BY n").fetchall()
    mask = Condition(condition).mask(rows, rows.schema)
    assert mask.dtype == np.bool_
    assert np.flatnonzero(mask).tolist() == [n for (n,) in result]


ROWS = pa.table(
    {
        "image_id": ["a", "b", "c"],
        "width": pa.array([1, 2, None], pa.int32()),
        "meta.label": pa.array(["tram", "bus", None]).dictionary_encode(),
        "meta.odd name": [1.5, None, 0.5],
        "meta": pa.array(
            [{"label": "x", "price": 3}, None, {"label": None, "price": 5}],
            pa.struct([("label", pa.string()), ("price", pa.uint64())]),
        ),
        "other": pa.array([{"inner": {"deep": 1}}, {"inner": None}, None]),
        "nothing": pa.nulls(3),
        "taken": pa.array([datetime.date(2026, 1, 1)] * 3),
        "small": pa.array([1, 2, 3], pa.float16()),
        "long": pa.array(["x", "y", None], pa.large_string()),
    }
)


@pytest.mark.parametrize(
    ("condition", "passing"),
    [
        ("image_id IN ('a', 'c')", "ac"),
        ("label = 'tram'", "a"),
        ("meta.label != 'tram'", "b"),
        ("meta.price >= 3", "ac"),
        ("price=5", "c"),
        ("price > -1 AND price < 4.5", "a"),
        ('"meta.odd name" > .6', "a"),
        ('"odd name" IS NOT NULL', "ac"),
        ("other.inner.deep IS NULL", "bc"),
        ("nothing IS NULL", "abc"),
        ("nothing = 'x' OR nothing IN (1, 2)", ""),
        ("NOT nothing = 1", ""),
        ("taken IS NOT NULL", "abc"),
        ("small >= 2 and width<=2e0", "b"),
        ("long = 'x'", "a"),
        ("width IN (1, 2.5)", "a"),
        ("width = +1\n\tOR width = 2", "ab"),
        ("NOT NOT width = 1", "a"),
        ("NOT (width = 1 AND label = 'tram')", "b"),
    ],
)
def test_columns_of_all_kinds(condition, passing):
    mask = Condition(condition).mask(ROWS, ROWS.schema)
    assert [name for name, passes in zip("abc", mask, strict=True) if passes] == list(passing)


def test_a_column_that_only_other_shards_have_is_null():
    declared = ROWS.schema
    some = ROWS.select(["image_id", "width"])
    assert Condition("label IS NULL AND price IS NULL").mask(some, declared).all()
    assert (
        not Condition("label = 'tram' OR price = 1 OR taken IS NOT NULL").mask(some, declared).any()
    )
    # And one that has another type there is taken as the wider.
    wide = pa.unify_schemas([pa.schema([("width", pa.float64())])])
    assert Condition("width < 1.5").mask(some, wide).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("", "must have a column, a number or a 'string' at character 1; found the end"),
        ("width", "must have one of = .* IN or IS at character 6; found the end"),
        ("width == 1", "must have a column, a number or a 'string' at character 8; found ="),
        ("width = 1 width = 2", "must have AND, OR or the end at character 11; found width"),
        ("(width = 1", r"must have \) at character 11"),
        ("width = 'a", "its closing quote is missing"),
        ("width = ;", "cannot be read from ';', character 9"),
        ("width = NULL", "for NULL write IS NULL"),
        ("width IN ()", "a column, a number or a 'string' at character 11"),
        ("width IN (1, width)", "must have a number or a 'string' at character 14; found width"),
        ("width IN 1", r"must have \( at character 10"),
        ("width NOT = 1", "must have IN at character 11"),
        ("width IS 1", "must have NULL at character 10"),
        ("1 = 1", "must name a column next to the = at 3"),
        ("width = 99999999999999999999", "must fit 64 bits"),
        ("width = 9223372036854775808", "must fit 64 bits"),
        ("width = 1e999", "must fit 64 bits"),
        ("__import__('os') = 1", r"must have one of .* found \("),
        ("width = 'a'", r"compares width \(numbers\) with 'a' \(strings\)"),
        ("label = 1", r"compares label \(strings\) with 1 \(numbers\).*single quotes"),
        ("label IN ('a', 1)", r"compares label \(strings\) with 1 \(numbers\)"),
        ("width = TRUE", r"with True \(TRUE or FALSE\)"),
        ("width = label", r"compares width \(numbers\) with label \(strings\)"),
        ("truth < TRUE", "can compare truth and True by = or !=; found <"),
        ("taken = '2026-01-01'", "found taken of the type date32"),
        ("meta = 1", "found meta of the type struct"),
        ("nobody = 1", "'nobody', which is not one of this index: image_id, width, meta.label,"),
        ("meta.nobody = 1", "meta.price, other.inner.deep"),
        ("WIDTH = 1", "names the column 'WIDTH'"),
    ],
)
def test_what_is_refused(condition, message):
    rows = ROWS.append_column("truth", pa.array([True, False, None]))
    with pytest.raises(UsageError, match=message):
        Condition(condition).mask(rows, rows.schema)


def test_length_and_depth_are_limited():
    for deep in ("(", "NOT "):
        parse(deep * (MAX_DEPTH - 1) + "a = 1" + ")" * (deep == "(") * (MAX_DEPTH - 1))
        with pytest.raises(UsageError, match=f"nested at most {MAX_DEPTH} deep"):
            parse(deep * (MAX_LENGTH // len(deep)))
    long = " OR ".join(["a = 1"] * 1000)
    assert Condition(long).mask(pa.table({"a": [1, 2]}), pa.schema([("a", pa.int64())])).any()
    with pytest.raises(
        UsageError, match=f"at most {MAX_LENGTH} characters; found {MAX_LENGTH + 1}"
    ):
        parse("a" * (MAX_LENGTH + 1))
    with pytest.raises(UsageError, match="where must be a string; found 3"):
        parse(3)


@given(st.text(alphabet="ab'\"() =<>!,.0129eE+-\n" + "INOTRA", max_size=60))
def test_any_text_is_parsed_or_refused(text):
    try:
        parse(text)
    except UsageError as error:
        assert "where" in str(error)  # noqa: PT017


def test_numbers_are_compared_exactly():
    rows = pa.table({"n": pa.array([2**53, 2**53 + 1], pa.int64())})
    assert Condition(f"n = {2**53 + 1}").mask(rows, rows.schema).tolist() == [False, True]
    assert Condition(f"n IN ({2**53}, 7)").mask(rows, rows.schema).tolist() == [True, False]
