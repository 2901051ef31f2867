"""Input rows: one row per picture with its id, its uri, and the attributes given by the input."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError
from pool3.inputs.columns import TableColumns
from pool3.inputs.options import InputOptions
from pool3.inputs.row_uris import RowUris
from pool3.inputs.types import cast, is_text

UTC_TIME = pa.timestamp("us", tz="UTC")

_FIELDS = [
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("size", pa.int64()),
    pa.field("etag", pa.string()),
    pa.field("modified_at", UTC_TIME),
    pa.field("refused", pa.string()),  # why the uri must not be fetched
    pa.field("position", pa.int64(), nullable=False),  # order in the input, unique, with gaps
]

#: A position is the number of the file times this, plus the row in the file.
POSITIONS_PER_FILE = 1 << 40
_OUTPUT_BYTES = 32 << 20


def row_schema(
    *, digest: bool = False, content: bool = False, meta: pa.StructType | None = None
) -> pa.Schema:
    """Return the columns of input rows.

    Parameters
    ----------
    digest, content
        Whether the rows have the SHA-256 of the bytes, and whether they have the bytes.
    meta
        Type of the carried columns.
    """
    fields = list(_FIELDS)
    if digest:
        fields.append(pa.field("content_sha256", pa.string()))
    if content:
        fields.append(pa.field("content", pa.binary()))
    if meta is not None:
        fields.append(pa.field("meta", meta))
    return pa.schema(fields)


def relative_id(uri: str, base: str) -> str | None:
    """Return the path of `uri` below the folder `base`, None when it is not below it.

    Examples
    --------
    >>> relative_id("s3://lake/photos/a/b.jpg", "s3://lake/photos")
    'a/b.jpg'
    """
    prefix = f"{base.rstrip('/')}/"
    return uri.removeprefix(prefix) if uri.startswith(prefix) else None


class RowMaker:
    """Turns rows of a table of inputs into input rows.

    Parameters
    ----------
    columns
        Columns of the table.
    options
        Options of the run.
    sources
        Number of the first file and uri of each table of the input. Rows that have bytes and no uri
        get the uri of their table.
    content
        Whether the rows have the bytes, if the input has any, besides their digest.
    """

    def __init__(
        self,
        columns: TableColumns,
        options: InputOptions,
        sources: Sequence[tuple[int, str]],
        *,
        content: bool = False,
    ) -> None:
        self._columns = columns
        self._starts = [number * POSITIONS_PER_FILE for number, _ in sources]
        self._sources = [uri for _, uri in sources]
        self._uris = RowUris(options.allow_uri)
        self._base = options.base
        has_bytes = "content" in columns.roles
        self.schema = row_schema(digest=has_bytes, content=content and has_bytes, meta=columns.meta)

    def rows(self, batch: pa.RecordBatch, positions: pa.Array) -> Iterator[pa.RecordBatch]:
        """Yield the input rows of a batch, in batches of at most about 32 MB.

        Parameters
        ----------
        batch
            Columns of `TableColumns.carried`.
        positions
            int64, one for each row.

        Raises
        ------
        UsageError
            An id is missing, or a size or time is invalid.
        """
        rows = self._all_rows(batch, positions)
        count = max(1, rows.num_rows * _OUTPUT_BYTES // max(rows.nbytes, _OUTPUT_BYTES))
        for start in range(0, rows.num_rows, count):
            yield rows.slice(start, count)

    def _all_rows(self, batch: pa.RecordBatch, positions: pa.Array) -> pa.RecordBatch:
        uris, refusals, names = self._named(batch, positions)
        content = self._column(batch, "content")
        if content is None:
            size = self._numbers(batch)
        else:
            content = content.fill_null(b"")
            size = pc.binary_length(content)
        columns = {
            "image_id": self._ids(batch, names, positions),
            "uri": uris,
            "size": size,
            "etag": self._etags(batch),
            "modified_at": self._times(batch),
            "refused": refusals,
            "position": positions,
            "content_sha256": None if content is None else _digests(content),
            "content": content,
            "meta": self._meta(batch),
        }
        arrays = [
            pa.nulls(batch.num_rows, field.type)
            if columns[field.name] is None
            else _array(columns[field.name], field.type)
            for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _source(self, position: int) -> str:
        return self._sources[bisect_right(self._starts, position) - 1]

    def _column(self, batch: pa.RecordBatch, role: str) -> pa.Array | None:
        name = self._columns.roles.get(role)
        return None if name is None else batch.column(name)

    def _named(
        self, batch: pa.RecordBatch, positions: pa.Array
    ) -> tuple[list[str], list[str | None], list[str]]:
        """Return uris, reasons of refusal, and ids derived from the uris."""
        texts = self._column(batch, "uri")
        values = [None] * batch.num_rows if texts is None else texts.to_pylist()
        has_bytes = "content" in self._columns.roles
        uris, refusals, names = [], [], []
        for text, position in zip(values, positions.to_pylist(), strict=True):
            uri, refused = self._uris.judge(text)
            name = uri
            if refused is None or (has_bytes and uri):
                below = uri if self._base is None else relative_id(uri, self._base)
                if below is None:
                    refused = refused or "not below the base of --id-from"
                else:
                    name = below
            uris.append(uri or self._source(position))
            refusals.append(None if has_bytes else refused)
            names.append(name or f"{self._source(position)}#{describe_position(position)}")
        return uris, refusals, names

    def _ids(self, batch: pa.RecordBatch, names: list[str], positions: pa.Array) -> pa.Array:
        column = self._column(batch, "id")
        if column is None:
            return pa.array(names, pa.string())
        ids = cast(column, pa.string())
        missing = pc.index(pc.equal(ids.fill_null(""), ""), pa.scalar(True)).as_py()
        if missing >= 0:
            position = positions[missing].as_py()
            raise UsageError(
                f"expected an id in each row, found none in column {self._columns.roles['id']} of "
                f"{self._source(position)}, {describe_position(position)}; fill it or exclude "
                "the row with --input-where"
            )
        return ids

    def _numbers(self, batch: pa.RecordBatch) -> pa.Array | None:
        return self._converted(batch, "size", pa.int64(), "a number of bytes")

    def _times(self, batch: pa.RecordBatch) -> pa.Array | None:
        column = self._column(batch, "modified")
        if column is None:
            return None
        if is_text(column.type):
            # Some writers omit the zone; then the time is UTC.
            zone = pc.match_substring_regex(column, r":\d\d.*(Z|[+-]\d\d(:?\d\d)?)$")
            column = pc.if_else(zone, column, pc.binary_join_element_wise(column, "Z", ""))
            batch = batch.set_column(
                batch.schema.get_field_index(self._columns.roles["modified"]),
                self._columns.roles["modified"],
                column,
            )
        return self._converted(batch, "modified", UTC_TIME, "a time in ISO 8601")

    def _converted(
        self, batch: pa.RecordBatch, role: str, kind: pa.DataType, what: str
    ) -> pa.Array | None:
        column = self._column(batch, role)
        if column is None:
            return None
        try:
            return cast(column, kind)
        except pa.ArrowInvalid as error:
            raise UsageError(
                f"expected {what} in column {self._columns.roles[role]} of the input, found "
                f"another value ({str(error).splitlines()[0]}); correct it or name another column"
            ) from error

    def _etags(self, batch: pa.RecordBatch) -> pa.Array | None:
        column = self._column(batch, "etag")
        return None if column is None else pc.replace_substring_regex(column, '^W/|"', "")

    def _meta(self, batch: pa.RecordBatch) -> pa.Array | None:
        meta = self._columns.meta
        if meta is None:
            return None
        return pa.StructArray.from_arrays(
            [batch.column(field.name) for field in meta], fields=list(meta)
        )


def _digests(content: pa.Array) -> pa.Array:
    """Return the hexadecimal SHA-256 of each value, without copying the bytes."""
    digests = [hashlib.sha256(value.as_buffer()).hexdigest() for value in content]
    return pa.array(digests, pa.string())


def describe_position(position: int) -> str:
    """Return a position as text, with file and row counted from 1."""
    file, row = divmod(position, POSITIONS_PER_FILE)
    return f"row {row + 1} of file {file + 1}"


def _array(values: pa.Array | list[object], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind) if isinstance(values, list) else cast(values, kind)
