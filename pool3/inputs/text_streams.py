r"""Text of tables of inputs as Arrow reads it: CSV without escapes, JSON without untyped fields.

Arrow's own escape character means the next character literally anywhere. Spark writes and reads an
escape before a quote or itself in a quoted field only, so that ``C:\new`` stays as it is.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.json as pa_json
from pyarrow import types

_CHUNK_BYTES = 1 << 20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_AT_START, _IN_FIELD, _IN_QUOTES = range(3)


def unescaped(source: BinaryIO, escape: str | None, delimiter: str) -> BinaryIO:
    """Return CSV whose quotes are doubled instead of escaped.

    Parameters
    ----------
    escape
        One ASCII character, None where quotes are doubled already.
    delimiter
        One ASCII character.

    Raises
    ------
    pyarrow.ArrowInvalid
        While it is read: `escape` is None, and quotes are escaped by a backslash.
    """
    raw = _Unescaped(source, Unescaper(escape, delimiter))
    return cast(BinaryIO, io.BufferedReader(raw, _CHUNK_BYTES))


class Unescaper:
    r"""Doubles the quotes of CSV that are escaped, chunk by chunk.

    Examples
    --------
    >>> Unescaper("\\", ",").feed(rb'a\b,"say \"hi\", \\n"', last=True)
    b'a\\b,"say ""hi"", \\n"'
    """

    def __init__(self, escape: str | None, delimiter: str) -> None:
        e = re.escape((escape or "").encode())
        ends = re.escape(delimiter.encode()) + rb"\r\n"
        text = rb'[^"' + e + rb"]*+" if escape else rb'(?:[^"]++|"")*+'
        quoted = rb'"' + text + rb'"(?=[' + ends + rb"])"
        plain = rb'[^"' + ends + rb"][^" + ends + rb"]*+"
        # Whole fields that stay as they are, so that the loop of `feed` only sees the other ones.
        self._fields = re.compile(
            rb"(?:" + quoted + rb"|" + plain + rb"|[" + ends + rb"]++)*+", re.DOTALL
        )
        self._rest = re.compile(rb"[^" + ends + rb"]*+")
        escapes = rb"|" + e + rb'["' + e + rb"]|" + e + rb'(?=[^"' + e + rb"])" if escape else b""
        self._inside = re.compile(rb'(?:[^"' + e + rb']++|""' + escapes + rb")*+")
        self._escaped = re.compile(e + rb'(["' + e + rb"])")
        self._ends = delimiter.encode() + b"\r\n"
        self._escape = escape
        self._state = _AT_START
        self._before = b""  # the last byte of the previous chunk
        self._pending = b""  # a quote or an escape whose next byte decides what it is

    def feed(self, chunk: bytes, *, last: bool = False) -> bytes:
        """Return the next chunk; `last` for the last one, which may be empty."""
        data = self._pending + chunk
        self._pending = b""
        if self._state != _IN_QUOTES and b'"' not in data:
            if data:
                self._state = _AT_START if data[-1] in self._ends else _IN_FIELD
            return data
        pieces: list[bytes] = []
        at = 0
        while at < len(data):
            before = at
            at = self._step(data, at, last, pieces)
            if at == before:
                self._pending = data[at:]
                break
        self._before = data[at - 1 : at] or self._before
        return b"".join(pieces)

    def _step(self, data: bytes, at: int, last: bool, pieces: list[bytes]) -> int:
        """Append what one state reads from `at` on; return where it ends."""
        if self._state == _IN_QUOTES:
            return self._quoted(data, at, last, pieces)
        pattern = self._rest if self._state == _IN_FIELD else self._fields
        end = pattern.match(data, at).end()  # type: ignore[union-attr]
        if end == len(data):
            self._state = _AT_START if data[end - 1] in self._ends else _IN_FIELD
        elif self._state == _IN_FIELD:
            self._state, end = _AT_START, end + 1
        else:
            self._state, end = _IN_QUOTES, end + 1
        pieces.append(data[at:end])
        return end

    def _quoted(self, data: bytes, at: int, last: bool, pieces: list[bytes]) -> int:
        end = self._inside.match(data, at).end()  # type: ignore[union-attr]
        inside = data[at:end]
        pieces.append(self._escaped.sub(_without_escape, inside) if self._escape else inside)
        rest = len(data) - end
        if rest > 1 or (rest == 1 and last):
            if data[end : end + 1] == b'"':
                self._state = _IN_FIELD
                if self._escape is None:
                    self._require_no_escape(data, end)
            pieces.append(data[end : end + 1])
            end += 1
        return end

    def _require_no_escape(self, data: bytes, end: int) -> None:
        """Raise `pyarrow.ArrowInvalid` where text goes on after a backslash and a quote."""
        before = data[end - 1 : end] or self._before
        after = data[end + 1 : end + 2]
        if before == b"\\" and after and after not in self._ends:
            raise pa.ArrowInvalid(
                "its quotes are escaped by a backslash; name --csv-escape, or write them doubled"
            )


def _without_escape(match: re.Match[bytes]) -> bytes:
    return b'""' if match[1] == b'"' else match[1]


class _Unescaped(io.RawIOBase):
    """A stream through an `Unescaper`, for Arrow."""

    def __init__(self, source: BinaryIO, unescaper: Unescaper) -> None:
        self._source = source
        self._unescaper = unescaper
        mark = source.read(len(codecs.BOM_UTF8))
        self._ready = unescaper.feed(b"" if mark == codecs.BOM_UTF8 else mark)
        self._is_done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while not self._ready and not self._is_done:
            chunk = self._source.read(_CHUNK_BYTES)
            self._is_done = not chunk
            self._ready = self._unescaper.feed(chunk, last=self._is_done)
        data, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def require_utf8(source: BinaryIO) -> None:
    """Raise `pyarrow.ArrowInvalid` for a seekable source that begins with the mark of UTF-16."""
    if source.read(2) in _UTF16:
        raise pa.ArrowInvalid("it is UTF-16, not UTF-8")
    source.seek(0)


def has_untyped(schema: pa.Schema) -> bool:
    """Return whether a field, or one inside of it, was null or empty wherever it was read."""
    return any(_is_untyped(field.type) for field in schema)


def _is_untyped(kind: pa.DataType) -> bool:
    if types.is_struct(kind):
        return any(_is_untyped(field.type) for field in kind)
    return _is_untyped(kind.value_type) if types.is_list(kind) else bool(types.is_null(kind))


def with_later_types(schema: pa.Schema, source: BinaryIO, block_bytes: int) -> pa.Schema:
    """Return a schema whose untyped fields have the type of their first value in JSON lines.

    Parameters
    ----------
    schema
        Columns as the first lines have them.
    source
        All lines; they are read up to the block in which the last field gets its type.
    block_bytes
        Bytes in memory, and the limit of one line.
    """
    for block in _blocks(source, block_bytes):
        options = pa_json.ReadOptions(block_size=len(block) + 1)
        later = pa_json.read_json(pa.BufferReader(block), read_options=options).schema
        schema = pa.schema(_merged(pa.struct(schema), pa.struct(later)))
        if not has_untyped(schema):
            break
    return schema


def _blocks(source: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """Yield whole lines, some megabytes of them at a time."""
    rest = b""
    while chunk := source.read(block_bytes):
        lines, newline, after = (rest + bytes(chunk)).rpartition(b"\n")
        rest = after
        if len(rest) > block_bytes:
            raise pa.ArrowInvalid(f"a line has more than {block_bytes} bytes")
        if lines.strip():
            yield lines + newline
    if rest.strip():
        yield rest


def _merged(kind: pa.DataType, later: pa.DataType) -> pa.DataType:
    """Return a type with the types of `later` where it has none."""
    if types.is_null(kind):
        return later
    if types.is_list(kind) and types.is_list(later):
        return pa.list_(_merged(kind.value_type, later.value_type))
    if types.is_struct(kind) and types.is_struct(later):
        others = {field.name: field.type for field in later}
        return pa.struct(
            [
                (field.name, _merged(field.type, others.get(field.name, field.type)))
                for field in kind
            ]
        )
    return kind


def json_type(kind: pa.DataType, keep_untyped: bool) -> pa.DataType:
    """Return the type in which JSON is read: text for times, and for fields without any value.

    JSON has no times, so another line with other text would fail. Spark, too, reads fields without
    a value as text.

    Parameters
    ----------
    kind
        The type that Arrow infers.
    keep_untyped
        Whether fields without any value keep the type null.
    """
    if types.is_timestamp(kind) or (types.is_null(kind) and not keep_untyped):
        return pa.string()
    if types.is_list(kind):
        return pa.list_(json_type(kind.value_type, keep_untyped))
    if types.is_struct(kind):
        return pa.struct([(field.name, json_type(field.type, keep_untyped)) for field in kind])
    return kind
