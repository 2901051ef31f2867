"""Reads shares of tables of inputs in batches: Parquet, CSV, JSON lines.

Files are streamed: a task has a batch or a block of text in memory, never a whole file. CSV has no
types, so each of its columns is text; inference would read 00123 as 123.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from pool3 import storage
from pool3.errors import UsageError
from pool3.inputs.rows import POSITIONS_PER_FILE
from pool3.inputs.s3_inventory import URI, with_uris
from pool3.inputs.table_files import CSV, JSON_LINES, PARQUET, Share
from pool3.inputs.text_streams import (
    has_untyped,
    json_type,
    require_utf8,
    unescaped,
    with_later_types,
)
from pool3.inputs.types import cast
from pool3.storage.delta_protocol import unpack_mask
from pool3.storage.parquet_reader import ParquetInput, iter_batches, open_parquet

_BATCH_BYTES = 8 << 20
_MOST_ROWS = 8192
_BLOCK_BYTES = 8 << 20  # of text; the limit for one line of JSON
_COMPRESSION = {"gz": "gzip", "zst": "zstd", "bz2": "bz2"}

#: A batch, after the position of its first row.
PlacedBatch = tuple[int, pa.RecordBatch]


def share_schema(share: Share, *others: Share, keep_untyped: bool = False) -> pa.Schema:
    """Return the columns of a share's file, and those from its folder names or its log.

    Parameters
    ----------
    share
        The share.
    others
        More shares of the table; a JSON field without any value in the file of `share` has the type
        that it has there.
    keep_untyped
        Whether JSON fields that have no value anywhere keep the type null; they are text otherwise.

    Raises
    ------
    UsageError
        The file does not have the format that its name indicates.
    """
    with opened(share) as source:
        if share.format == PARQUET:
            schema = open_parquet(source).schema_arrow.remove_metadata()
        elif share.format == CSV:
            names = _csv_reader(share, source, None).schema.names
            schema = pa.schema([(name, pa.string()) for name in names])
        else:
            schema = pa_json.open_json(source, read_options=_json_block()).schema
    if share.format == JSON_LINES:
        schema = _typed(schema, [share, *others], keep_untyped)
    added = [*share.constants, *([URI] if share.is_inventory else [])]
    fields = [pa.field(name, pa.string()) for name in added if name not in schema.names]
    return pa.schema([*schema, *fields])


def _typed(schema: pa.Schema, shares: Sequence[Share], keep_untyped: bool) -> pa.Schema:
    """Return the schema of JSON's first lines with types for fields that have no value there."""
    for share in shares:
        if not has_untyped(schema):
            break
        with opened(share) as source:
            schema = with_later_types(schema, source, _BLOCK_BYTES)
    return pa.schema([(field.name, json_type(field.type, keep_untyped)) for field in schema])


def read_share(share: Share, schema: pa.Schema, carried: pa.Schema) -> Iterator[PlacedBatch]:
    """Yield the rows of a share in batches, each with the position of its first row.

    Parameters
    ----------
    share
        The rows to read.
    schema
        Columns as the input has them (`share_schema` of its first file).
    carried
        The same columns, under the types that they have in the feature table.

    Raises
    ------
    UsageError
        The file cannot be read, or has other columns than the first.
    """
    with opened(share) as source:
        for row, stored in _batches(share, source, schema):
            position = share.number * POSITIONS_PER_FILE + row
            batch = stored
            if share.is_inventory:
                batch = with_uris(stored, escaped=share.format == CSV)
            yield position, _conformed(batch, share, carried)


@contextmanager
def opened(share: Share) -> Iterator[BinaryIO]:
    """Open a share's file; raise `UsageError` for invalid content inside the block."""
    try:
        with storage.open_input(share.file) as source:
            suffix = share.file.rsplit(".", 1)[-1].lower()
            if suffix in _COMPRESSION:
                yield pa.CompressedInputStream(source, _COMPRESSION[suffix])
            else:
                if share.format != PARQUET:
                    require_utf8(source)
                yield source
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk or the network, not of the file's content
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"expected {share.format} with the same columns in every file of {share.source}, "
            f"found that {share.file} cannot be read so ({reason}); repair or remove the file"
        ) from error


def _batches(share: Share, source: BinaryIO, schema: pa.Schema) -> Iterator[PlacedBatch]:
    if share.format == PARQUET:
        yield from _parquet_batches(share, source)
        return
    if share.format == CSV:
        reader = _csv_reader(share, source, schema)
    else:
        options = pa_json.ParseOptions(
            explicit_schema=pa.schema(
                [field for field in schema if field.name not in share.constants]
            ),
            unexpected_field_behavior="error",
        )
        reader = pa_json.open_json(source, read_options=_json_block(), parse_options=options)
    row = 0
    for batch in reader:
        yield row, batch
        row += batch.num_rows


def _parquet_batches(share: Share, source: BinaryIO) -> Iterator[PlacedBatch]:
    # Buffered instead of prefetched: a column chunk may have gigabytes of pictures.
    file = open_parquet(source, pre_buffer=False, buffer_size=1 << 20)
    count = file.metadata.num_row_groups
    deleted = unpack_mask(share.deleted, file.metadata.num_rows)
    row = 0
    for group in range(count):
        if group * share.n_splits // count == share.split:
            for first, batch in group_batches(file, group, row):
                yield from _live_runs(first, batch, deleted)
        row += file.metadata.row_group(group).num_rows


def _live_runs(
    first: int, batch: pa.RecordBatch, deleted: npt.NDArray[np.bool_]
) -> Iterator[PlacedBatch]:
    """Yield the runs of rows that are not deleted, so that each run's positions are contiguous."""
    mask = deleted[first : first + batch.num_rows]
    if not mask.any():
        yield first, batch
        return
    edges = np.flatnonzero(np.diff(np.r_[True, mask, True].astype(np.int8)))
    for begin, end in edges.reshape(-1, 2).tolist():
        yield first + begin, batch.slice(begin, end - begin)


def group_batches(
    file: ParquetInput, group: int, row: int, columns: list[str] | None = None
) -> Iterator[PlacedBatch]:
    """Yield the rows of a row group in batches of some megabytes, each after its first row.

    Parameters
    ----------
    row
        Number of the group's first row.
    columns
        Columns to read, None for all.
    """
    metadata = file.metadata.row_group(group)
    rows_per_batch = metadata.num_rows * _BATCH_BYTES // max(1, metadata.total_byte_size)
    size = max(1, min(_MOST_ROWS, rows_per_batch))
    for batch in iter_batches(file, batch_size=size, row_groups=[group], columns=columns):
        yield row, batch
        row += batch.num_rows


def _csv_reader(
    share: Share, source: BinaryIO, schema: pa.Schema | None
) -> pa_csv.CSVStreamingReader:
    suffixes = share.file.lower().split(".")[-2:]
    names = [] if schema is None else schema.names
    delimiter = "\t" if "tsv" in suffixes else ","
    return pa_csv.open_csv(
        unescaped(source, share.escape, delimiter),
        read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=list(share.columns)),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=share.is_inventory,  # S3 quotes empty fields too
        ),
    )


def _json_block() -> pa_json.ReadOptions:
    return pa_json.ReadOptions(block_size=_BLOCK_BYTES)


def _conformed(batch: pa.RecordBatch, share: Share, carried: pa.Schema) -> pa.RecordBatch:
    """Return a batch in the carried columns: cast, with constants, null where the file has none."""
    extra = set(batch.schema.names) - set(carried.names)
    if extra or len(set(batch.schema.names)) < batch.num_columns:
        raise UsageError(
            f"expected the columns {', '.join(carried.names)} in every file of {share.source}, "
            f"found {', '.join(batch.schema.names)} in {share.file}; rewrite the table with one "
            "set of columns"
        )
    arrays = [_column(batch, column, share) for column in carried]
    return pa.RecordBatch.from_arrays(arrays, schema=carried)


def _column(batch: pa.RecordBatch, column: pa.Field, share: Share) -> pa.Array:
    if column.name in batch.schema.names:
        return cast(batch.column(column.name), column.type)
    value = share.constants.get(column.name)
    if value is None:
        return pa.nulls(batch.num_rows, column.type)
    return pa.repeat(pa.scalar(value, pa.string()).cast(column.type), batch.num_rows)
