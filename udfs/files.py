"""Files of a table as inputs of tasks, one JSON row each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark.sql import types as T

from pool3.storage.tables import TableFile
from udfs.spread import Batches

FILE_SCHEMA = T.StructType([T.StructField("file", T.StringType(), nullable=False)])


def file_rows(files: Sequence[TableFile]) -> pa.Table:
    """Return files as rows of `FILE_SCHEMA`."""
    return pa.table({"file": [json.dumps(file.as_dict()) for file in files]})


def files_of(batches: Batches) -> Iterator[TableFile]:
    """Yield the files that a task was given."""
    for batch in batches:
        for text in batch.column("file").to_pylist():
            yield TableFile.from_dict(json.loads(text))
