"""Escapes in CSV: as Spark writes and reads them, however the text is cut into chunks."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.inputs.text_streams import Unescaper, unescaped

ALPHABET = '\\\\"",a\n |é'
TEXTS = st.text(ALPHABET, max_size=8)


def as_spark_writes(value: str, escape: str, delimiter: str, quote_all: bool) -> str:
    if not quote_all and value and not set(value) & {delimiter, '"', "\n", "\r"}:
        return value
    return '"' + value.replace(escape, escape * 2).replace('"', f'{escape}"') + '"'


@given(
    st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6),
    st.sampled_from(["\\", "|", "^", "]"]),
    st.sampled_from([",", "\t"]),
    st.booleans(),
    st.integers(1, 20),
)
def test_what_spark_writes_is_read_back(
    rows: list[tuple[str, str]], escape: str, delimiter: str, quote_all: bool, size: int
) -> None:
    lines = [
        delimiter.join(as_spark_writes(value, escape, delimiter, quote_all) for value in row)
        for row in rows
    ]
    data = "".join(f"{line}\n" for line in lines).encode()
    unescaper = Unescaper(escape, delimiter)
    chunks = [unescaper.feed(data[at : at + size]) for at in range(0, len(data), size)]
    plain = b"".join([*chunks, unescaper.feed(b"", last=True)])
    assert plain == unescaped(io.BytesIO(data), escape, delimiter).read()
    table = pa_csv.read_csv(
        io.BytesIO(plain),
        read_options=pa_csv.ReadOptions(column_names=["a", "b"]),
        parse_options=pa_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=False
        ),
        convert_options=pa_csv.ConvertOptions(column_types={"a": pa.string(), "b": pa.string()}),
    )
    assert [tuple(row.values()) for row in table.to_pylist()] == rows


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2)), st.integers(1, 20))
def test_doubled_quotes_stay_as_they_are(rows: list[list[str]], size: int) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    data = text.getvalue().encode()
    checker = Unescaper(None, ",")
    chunks = [checker.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert b"".join([*chunks, checker.feed(b"", last=True)]) == data


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_escapes_that_are_not_expected_are_an_error(size: int) -> None:
    data = b'/a.jpg,"C:\\"\n/b.jpg,"say \\"hi\\""\n'
    checker = Unescaper(None, ",")
    with pytest.raises(pa.ArrowInvalid, match="--csv-escape"):
        list(map(checker.feed, [data[at : at + size] for at in range(0, len(data), size)]))


@given(st.text(ALPHABET, max_size=20), st.integers(1, 5))
def test_any_text_is_read_in_any_chunks(text: str, size: int) -> None:
    data = text.encode()
    whole, pieces = Unescaper("\\", ","), Unescaper("\\", ",")
    expected = whole.feed(data, last=True)
    chunks = [pieces.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert b"".join([*chunks, pieces.feed(b"", last=True)]) == expected
