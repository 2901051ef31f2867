from __future__ import annotations

import datetime
import operator as operators
import sqlite3
from datetime import UTC

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.filters.condition import Condition
from pool3.filters.parser import MAX_DEPTH, MAX_LENGTH, Column, Comparison, parse

WHOLE = st.one_of(st.integers(-3, 3), st.sampled_from([2**62 + 1, -(2**62)]))
REAL = st.sampled_from([-1.5, -0.0, 0.0, 0.1, 1.0, 2.5, 1e300])
TEXT = st.sampled_from(
    ["", "a", "b", "it's", "B", "é", "\N{GRINNING FACE}", "\uffee", "a.b", "50%", "a_b\n", "\\d"]
)
PATTERNS = st.lists(
    st.sampled_from(["%", "_", "!%", "!_", "!!", "a", "b", ".", "\\", "5", "\n", "it's", "é"]),
    max_size=5,
).map("".join)
LITERALS = {"whole": WHOLE | REAL, "real": WHOLE | REAL, "text": TEXT, "truth": st.booleans()}
COMPARED = {
    "=": operators.eq, "!=": operators.ne, "<>": operators.ne, "<": operators.lt,
    "<=": operators.le, ">": operators.gt, ">=": operators.ge,
}  # fmt: skip
OPERATORS = st.sampled_from(sorted(COMPARED))
LIKE = st.sampled_from(["LIKE", "not like"])


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
    if column == "text" and draw(st.booleans()):
        return f"text {draw(LIKE)} {written(draw(PATTERNS))} escape '!'"
    if column != "truth" and draw(st.booleans()):
        test = draw(st.sampled_from(["BETWEEN", "not between"]))
        return f"{column} {test} {draw(literal)} AND {draw(literal)}"
    match draw(st.sampled_from(["compared", "columns", "in", "null"])):
        case "compared":
            operators = st.sampled_from(["=", "!=", "<>"]) if column == "truth" else OPERATORS
            left, right = draw(st.permutations([column, draw(literal)]))
            return f"{left} {draw(operators)}{right}"
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
    database.execute("PRAGMA case_sensitive_like = ON")
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
        "shot": pa.array([0, 1_500_000, None], pa.timestamp("us")),
        "like": pa.array([7, 8, None], pa.uint64()),
        'a "b" `c`': [1, 2, 3],
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
        ("taken = '2026-01-01' and '2026-01-02' > taken", "abc"),
        ("shot > '1970-01-01 00:00:01'", "b"),
        ("shot NOT IN ('1970-01-01T01:00:00+01:00')", "b"),
        ("shot < taken", "ab"),
        ("label LIKE 'b%'", "b"),
        ("label NOT LIKE '_us'", "a"),
        ("nothing LIKE 'x' OR nothing BETWEEN 1 AND 2", ""),
        ("width BETWEEN 1 AND 1 OR like BETWEEN 8 AND 9", "ab"),
        ("NOT width NOT BETWEEN 2 AND 3 AND like = 8", "b"),
        ("`like` = 7", "a"),
        ('"a ""b"" `c`" = 2', "b"),
        ('`a "b" ``c``` = 2', "b"),
        ('meta."odd name" > 1', "a"),
        ("`meta`.`label` = 'tram'", "a"),
        ('other.`inner`."deep" = 1', "a"),
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
        ("width", "must have one of = .* BETWEEN, IN, IS or LIKE at character 6; found the end"),
        ("width == 1", "must have a column, a number or a 'string' at character 8; found ="),
        ("width = 1 width = 2", "must have AND, OR or the end at character 11; found width"),
        ("(width = 1", r"must have \) at character 11"),
        ("width = 'a", "its closing quote is missing"),
        ("width = ;", "cannot be read from ';', character 9"),
        ("width = NULL", "for NULL write IS NULL"),
        ("width IN ()", "a column, a number or a 'string' at character 11"),
        ("width IN (1, width)", "must have a number or a 'string' at character 14; found width"),
        ("width IN 1", r"must have \( at character 10"),
        ("width NOT = 1", "must have IN, LIKE or BETWEEN at character 11"),
        ("width IS 1", "must have NULL at character 10"),
        ("1 = 1", "must name a column next to the = at 3"),
        ("width = 99999999999999999999", "must fit 64 bits"),
        ("width = 9223372036854775808", "must fit 64 bits"),
        ("width = 1e999", "must fit 64 bits"),
        ("__import__('os') = 1", r"must have one of .* found \("),
        ("width = 'a'", r"compares width \(numbers\) with 'a' \(strings\)"),
        ("label = 1", r"compares label \(strings\) with 1 \(numbers\).*single quotes"),
        ("small = shot", r"small \(numbers\) with shot \(dates and times\)"),
        ("label IN ('a', 1)", r"compares label \(strings\) with 1 \(numbers\)"),
        ("width = TRUE", r"with True \(TRUE or FALSE\)"),
        ("width = label", r"compares width \(numbers\) with label \(strings\)"),
        ("truth < TRUE", "can compare truth and True by = or !=; found <"),
        ("taken = '2026-1-1'", "date or time with '2026-1-1'; write it in ISO 8601"),
        ("shot = '2026-01-01T24:00:01'", "write it in ISO 8601"),
        ("shot = '2026-01-01T10:30.5'", "write it in ISO 8601"),
        ("taken = 20260101", r"compares taken \(dates and times\) with 20260101 \(numbers\)"),
        ("taken = 2026-01-01", "found -01; a date or time stands in single quotes"),
        ("taken LIKE '2026%'", r"can compare strings with LIKE; found taken \(dates and times\)"),
        ("width LIKE '1'", r"LIKE; found width \(numbers\)"),
        ("label LIKE width", "must have a 'pattern' .* found width, a column; .*quotes: 'width'"),
        ("label LIKE 'a!' ESCAPE '!'", "cannot read the pattern 'a!' at character 12: .*the end"),
        (r"label LIKE '\a'", "must stand before %, _ or itself; found a"),
        ("label LIKE 'a' ESCAPE ''", "must have one character after ESCAPE; found ''"),
        ("width BETWEEN 1", "must have AND at character 16"),
        ("truth BETWEEN TRUE AND FALSE", "by = or !="),
        ('label = "Banana"', "'Banana', .* single quotes: label and 'Banana'"),
        ("label = `it's`", "single quotes: label and 'it''s'"),
        ("meta.label = PNG", "single quotes: meta.label and 'PNG'"),
        ("PNG = label", "single quotes: label and 'PNG'"),
        ("label BETWEEN \"x\" AND 'z'", "single quotes: label and 'x'"),
        ("label IN ('a', \"b\")", """found "b", a column; a string .* single quotes: 'b'"""),
        ("label = `tram", "its closing quote is missing"),
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


@given(st.text(alphabet="ab'\"`\\% =<>!,.0129eE+-\n()" + "INOTRALKEBW", max_size=60))
def test_any_text_is_parsed_or_refused(text):
    try:
        parse(text)
    except UsageError as error:
        assert "where" in str(error)  # noqa: PT017


def test_numbers_are_compared_exactly():
    rows = pa.table({"n": pa.array([2**53, 2**53 + 1], pa.int64())})
    assert Condition(f"n = {2**53 + 1}").mask(rows, rows.schema).tolist() == [False, True]
    assert Condition(f"n IN ({2**53}, 7)").mask(rows, rows.schema).tolist() == [True, False]
    big = pa.table({"n": pa.array([2**53, 2**53 + 1, 2**64 - 1], pa.uint64())})
    for condition in (f"n = {2**53 + 1}", f"n IN ({2**53 + 1})"):
        assert Condition(condition).mask(big, big.schema).tolist() == [False, True, False]


@given(st.text(max_size=12), st.sampled_from('"`'))
def test_any_name_can_be_quoted(name, quote):
    written_name = quote + name.replace(quote, quote * 2) + quote
    assert parse(f"{written_name} = 1") == Comparison("=", Column(name), 1)
    rows = pa.table({name: [1, 2]})
    assert Condition(f"{written_name}=1").mask(rows, rows.schema).tolist() == [True, False]


@given(st.text(max_size=12), st.text(max_size=12), st.sampled_from("!\\|.$^é[("))
def test_an_escaped_pattern_matches_its_own_text_only(text, other, escape):
    pattern = "".join(escape + c if c in ("%", "_", escape) else c for c in text)
    rows = pa.table({"t": [text, other, text + other, None]})
    condition = f"t LIKE {written(pattern)} ESCAPE '{escape}'"
    expected = [value == text for value in rows["t"].to_pylist()]
    assert Condition(condition).mask(rows, rows.schema).tolist() == expected
    if escape == "\\":
        assert Condition(f"t LIKE {written(pattern)}").mask(rows, rows.schema).tolist() == expected


TIMES = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30))
ZONES = st.integers(-14 * 60, 14 * 60).map(
    lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))
)
COLUMN_TYPES = st.sampled_from(
    [pa.date32(), pa.date64(), *(pa.timestamp(unit) for unit in ("s", "ms", "us")),
     pa.timestamp("us", "Asia/Tokyo")]
)  # fmt: skip


@given(
    st.lists(st.none() | TIMES, max_size=4), TIMES, ZONES, COLUMN_TYPES, OPERATORS, st.booleans()
)
def test_dates_and_times_compare_with_iso_strings(values, value, zone, kind, operator, dictionary):
    """As Python compares them, in each unit, whatever the zone of the string."""
    column = pc.cast(pa.array(values, pa.timestamp("us")), kind, safe=False)
    expected = [
        None if stored is None else COMPARED[operator](utc(stored), value.replace(tzinfo=UTC))
        for stored in column.to_pylist()
    ]
    rows = pa.table({"t": column.dictionary_encode() if dictionary else column})
    text = value.replace(tzinfo=UTC).astimezone(zone).isoformat()
    mask = Condition(f"t {operator} '{text}'").mask(rows, rows.schema)
    assert mask.tolist() == [passes or False for passes in expected]


def utc(stored: datetime.date) -> datetime.datetime:
    if not isinstance(stored, datetime.datetime):
        stored = datetime.datetime.combine(stored, datetime.time())
    return stored.astimezone(UTC) if stored.tzinfo else stored.replace(tzinfo=UTC)


def test_times_beyond_64_bits_of_nanoseconds_and_fractions_of_them():
    kind = pa.timestamp("s")
    rows = pa.table({"t": pa.array([253402300799, -62135596800, 2**62], kind)})
    condition = "t BETWEEN '0001-01-01' AND '9999-12-31 23:59:59'"
    assert Condition(condition).mask(rows, rows.schema).tolist() == [True, True, False]
    fine = pa.table({"t": pa.array([1, 2], pa.timestamp("ns"))})
    condition = "t > '1970-01-01T00:00:00.000000001Z'"
    assert Condition(condition).mask(fine, fine.schema).tolist() == [False, True]
