"""Reads shares of tables of inputs in batches: Parquet, CSV, JSON lines.

Every file is streamed: a task holds a batch, or a block of text, and never a file. CSV has no
types, so that each of its columns is text: a guess would make 123 of 00123.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from pyarrow import types

from pool3 import storage
from pool3.errors import UsageError
from pool3.inputs.rows import ROWS_A_FILE
from pool3.inputs.s3_inventory import URI, with_uris
from pool3.inputs.table_files import CSV, PARQUET, Share
from pool3.inputs.types import cast

_BATCH_BYTES = 8 << 20
_MOST_ROWS = 8192
_BLOCK_BYTES = 8 << 20  # of text; no line of JSON may be longer
_COMPRESSION = {"gz": "gzip", "zst": "zstd", "bz2": "bz2"}

Placed = tuple[int, pa.RecordBatch]


def share_schema(share: Share) -> pa.Schema:
    """Return the columns of a share's file, and those that its folders or its log tell.

    Raises
    ------
    UsageError
        The file is not of the format that its name says.
    """
    with opened(share) as source:
        if share.format == PARQUET:
            schema = pq.ParquetFile(source).schema_arrow.remove_metadata()
        elif share.format == CSV:
            names = _csv_reader(share, source, None).schema.names
            schema = pa.schema([(name, pa.string()) for name in names])
        else:
            inferred = pa_json.open_json(source, read_options=_json_block()).schema
            schema = pa.schema([(one.name, _without_times(one.type)) for one in inferred])
    told = [*share.constants, *([URI] if share.keyed else [])]
    more = [pa.field(name, pa.string()) for name in told if name not in schema.names]
    return pa.schema([*schema, *more])


def _without_times(kind: pa.DataType) -> pa.DataType:
    """Take times for the text that they are: JSON has none, and one line of others would fail."""
    if types.is_timestamp(kind):
        return pa.string()
    if types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(one.name, _without_times(one.type)) for one in kind])
    return kind


def read_share(share: Share, given: pa.Schema, carried: pa.Schema) -> Iterator[Placed]:
    """Yield the rows of a share in batches, each with the position of its first row.

    Parameters
    ----------
    share
        What to read.
    given
        The columns as the input has them (`share_schema` of its first file).
    carried
        The same columns under the types that the feature table carries.

    Raises
    ------
    UsageError
        The file cannot be read, or has other columns than the first.
    """
    with opened(share) as source:
        for row, found in _batches(share, source, given):
            position = share.number * ROWS_A_FILE + row
            batch = with_uris(found, escaped=share.format == CSV) if share.keyed else found
            yield position, _conformed(batch, share, carried)


@contextmanager
def opened(share: Share) -> Iterator[BinaryIO]:
    """Open a share's file, and tell of what is wrong inside it as `UsageError`."""
    try:
        with storage.open_input(share.file) as source:
            suffix = share.file.rsplit(".", 1)[-1].lower()
            if suffix in _COMPRESSION:
                yield pa.CompressedInputStream(source, _COMPRESSION[suffix])
            else:
                yield source
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's or the network's, not the file's
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"expected {share.format} with the same columns in every file of {share.source}, "
            f"found that {share.file} cannot be read so ({reason}); mend or leave out the file"
        ) from error


def _batches(share: Share, source: BinaryIO, given: pa.Schema) -> Iterator[Placed]:
    if share.format == PARQUET:
        yield from _parquet_batches(share, source)
        return
    if share.format == CSV:
        reader = _csv_reader(share, source, given)
    else:
        options = pa_json.ParseOptions(
            explicit_schema=pa.schema([one for one in given if one.name not in share.constants]),
            unexpected_field_behavior="error",
        )
        reader = pa_json.open_json(source, read_options=_json_block(), parse_options=options)
    row = 0
    for batch in reader:
        yield row, batch
        row += batch.num_rows


def _parquet_batches(share: Share, source: BinaryIO) -> Iterator[Placed]:
    # Buffered and not prefetched: a column chunk may hold gigabytes of pictures.
    file = pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
    count = file.metadata.num_row_groups
    row = 0
    for group in range(count):
        facts = file.metadata.row_group(group)
        if group * share.parts // count == share.part:
            yield from group_batches(file, group, row)
        row += facts.num_rows


def group_batches(
    file: pq.ParquetFile, group: int, row: int, columns: list[str] | None = None
) -> Iterator[Placed]:
    """Yield the rows of a row group in batches of some megabytes, each with its first row.

    Parameters
    ----------
    row
        What the group's first row is counted as.
    columns
        None for all.
    """
    facts = file.metadata.row_group(group)
    rows_a_batch = facts.num_rows * _BATCH_BYTES // max(1, facts.total_byte_size)
    size = max(1, min(_MOST_ROWS, rows_a_batch))
    for batch in file.iter_batches(batch_size=size, row_groups=[group], columns=columns):
        yield row, batch
        row += batch.num_rows


def _csv_reader(
    share: Share, source: BinaryIO, given: pa.Schema | None
) -> pa_csv.CSVStreamingReader:
    suffixes = share.file.lower().split(".")[-2:]
    names = [] if given is None else given.names
    return pa_csv.open_csv(
        source,
        read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=list(share.columns)),
        parse_options=pa_csv.ParseOptions(
            delimiter="\t" if "tsv" in suffixes else ",", newlines_in_values=True
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=share.keyed,  # S3 quotes every field, empty ones too
        ),
    )


def _json_block() -> pa_json.ReadOptions:
    return pa_json.ReadOptions(block_size=_BLOCK_BYTES)


def _conformed(batch: pa.RecordBatch, share: Share, carried: pa.Schema) -> pa.RecordBatch:
    """Give a batch the columns of the input: cast, with constants, null where a file lacks one."""
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
