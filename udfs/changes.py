"""What changed in a feature table since an index was built from it, row by row.

The digest of a row's vector shows whether the row changed. Only the files that were added to the
table are read, if the table's log says which these are; otherwise all files are.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from pool3.features.table import FeatureTable
from pool3.features.vectors import SkippedRows, usable_rows
from pool3.storage.tables import TableFile
from pool3.vectors.float16 import as_float16
from pool3.vectors.stored import digests, storable
from udfs.indexed import INDEXED_SCHEMA
from udfs.tasks import Batches, TaskFunction, files_of

#: A usable row of the table; or, without an id, a `SkippedRows` of the rest of a file as JSON.
DIGEST_SCHEMA = T.StructType(
    [
        T.StructField("image_id", T.StringType()),
        T.StructField("table_digest", T.LongType()),  # the digest of its vector
        T.StructField("wide", T.BooleanType()),  # whether it exceeds float16
        T.StructField("skipped_rows", T.StringType()),
    ]
)


#: The change of a row, by the digests of its vector in the index and in the table.
SAME, ADDED, MOVED, DELETED = "same", "added", "moved", "deleted"

INDEXED = pa.schema([field.with_nullable(True) for field in to_arrow_schema(INDEXED_SCHEMA)])
TABLE_DIGESTS = pa.schema(
    [("image_id", pa.string()), ("table_digest", pa.int64()), ("wide", pa.bool_())]
)
COMPARED = pa.schema([*INDEXED, *list(TABLE_DIGESTS)[1:], ("change", pa.string())])


def digest_rows(table: FeatureTable, *, dimension: int, metric: str) -> TaskFunction:
    """Return the function that yields rows of `DIGEST_SCHEMA` for files."""

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            yield from digests_of_file(table, file, dimension, metric)

    return run


def digests_of_file(table: FeatureTable, file: TableFile, dimension: int, metric: str) -> Batches:
    """Yield the digests of the usable rows of a file, and then one row about the other rows."""
    skipped_rows = SkippedRows()
    for rows in usable_rows(
        table, file, dimension=dimension, metric=metric, skipped_rows=skipped_rows
    ):
        short = as_float16(storable(rows.vectors, metric))
        yield _digest_batch(
            rows.ids,
            pa.array(digests(rows.vectors).view(np.int64)),
            pa.array(~np.isfinite(short).all(axis=1)),
            pa.nulls(len(rows.ids), pa.string()),
        )
    yield _digest_batch(
        pa.nulls(1, pa.string()),
        pa.nulls(1, pa.int64()),
        pa.nulls(1, pa.bool_()),
        pa.array([json.dumps(skipped_rows.as_dict())]),
    )


def _digest_batch(*columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns), names=DIGEST_SCHEMA.names)


def mark(batches: Batches) -> Batches:
    """Yield joined rows with their change; see `marked`."""
    for batch in batches:
        yield from marked(pa.Table.from_batches([batch])).to_batches()


def marked(rows: pa.Table) -> pa.Table:
    """Add the column ``change`` to rows of an index joined with those of its table, by id."""
    in_index, in_table = (pc.is_valid(rows.column(name)) for name in ("shard", "table_digest"))
    same = pc.fill_null(pc.equal(rows.column("table_digest"), rows.column("digest")), False)
    change = pc.case_when(
        pc.make_struct(same, pc.and_(in_index, in_table), in_table, in_index),
        SAME,
        MOVED,
        ADDED,
        DELETED,
    )
    return rows.append_column("change", change.cast(pa.string())).select(COMPARED.names)
