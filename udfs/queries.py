"""Queries as rows: read from a table of vectors, or made from pictures by the index's model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from pool3.engines import cached_engine
from pool3.extract.pipeline import extract
from pool3.extract.reuse import ContentReuse
from pool3.extract.rows import PictureInput, RowContext
from pool3.features.schema import FEATURE_SCHEMA, OK
from pool3.features.vectors import NULL_ID
from pool3.images.decode import DecodeLimits
from pool3.images.pool import DecodePool
from pool3.search.queries import QueryTable
from pool3.vectors.usable import check_vectors
from udfs.tasks import Batches, TaskFunction, files_of

#: A query: its float32 vector, little-endian, or why it has none.
QUERY_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("vector", pa.binary()),
        pa.field("error", pa.string()),
    ]
)
SPARK_QUERY_SCHEMA: T.StructType = from_arrow_schema(QUERY_SCHEMA)

#: The error of a row whose table says that it is not ok: passed over, no failure.
NOT_OK = "not_ok"

PICTURE_SCHEMA = T.StructType(
    [
        T.StructField("uri", T.StringType(), nullable=False),
        T.StructField("size", T.LongType()),
    ]
)
ID_SCHEMA = T.StructType([T.StructField("query_id", T.StringType())])

_BATCH = 32


def list_query_ids(queries: QueryTable) -> TaskFunction:
    """Return the function that yields the ids of some files, those that are null left out."""

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            for batch in queries.table.read(file, [queries.id_column]):
                ids = pc.cast(batch.column(0), pa.string()).drop_null()
                yield pa.RecordBatch.from_arrays([ids], ID_SCHEMA.names)

    return run


def read_queries(queries: QueryTable, *, dimension: int, metric: str) -> TaskFunction:
    """Return the function that reads some files and yields rows of `QUERY_SCHEMA`."""
    has_status = "status" in queries.columns
    columns = [queries.id_column, "features", *(["status"] if has_status else [])]

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            for batch in queries.table.read(file, columns):
                ids = pc.cast(batch.column(queries.id_column), pa.string())
                passed = (
                    pc.equal(batch.column("status"), OK).to_numpy(zero_copy_only=False)
                    if has_status
                    else np.ones(batch.num_rows, dtype=np.bool_)
                )
                errors = np.where(passed, None, NOT_OK)  # type: ignore[call-overload]
                kept = pa.array(np.flatnonzero(passed))
                yield _checked(
                    ids, batch.column("features").take(kept), kept, errors, dimension, metric
                )

    return run


def _checked(
    ids: pa.Array,
    features: pa.Array,
    kept: pa.Array,
    errors: npt.NDArray[np.object_],
    dimension: int,
    metric: str,
) -> pa.RecordBatch:
    checked = check_vectors(features, dimension=dimension, metric=metric)
    places = kept.to_numpy()
    for reason, rows in checked.rejected.items():
        errors[places[rows]] = reason
    vectors: list[bytes | None] = [None] * len(ids)
    for row, vector in zip(places[checked.rows], checked.vectors.astype("<f4"), strict=True):
        vectors[row] = vector.tobytes()
    errors[(ids.is_null().to_numpy(zero_copy_only=False)) & (errors == None)] = NULL_ID  # noqa: E711
    return pa.RecordBatch.from_arrays(
        [ids, pa.array(vectors, pa.binary()), pa.array(errors, pa.string())], schema=QUERY_SCHEMA
    )


@dataclass(frozen=True, kw_only=True)
class QueryModel:
    """What a task needs to know of the index's model besides its graph."""

    model_id: str
    dimension: int
    metric: str
    input_size: int
    resize: str


def picture_queries(model: QueryModel, graph: Any) -> TaskFunction:
    """Return the function that runs pictures through the model and yields rows of `QUERY_SCHEMA`.

    Parameters
    ----------
    model
        See `QueryModel`.
    graph
        Spark broadcast of the frozen graph's bytes.
    """

    def run(batches: Batches) -> Batches:
        made: list[pa.RecordBatch] = []
        with DecodePool(processes=1, size=model.input_size, resize=model.resize) as decoder:
            # In float32, as a picture that is searched with alone; see `pool3.search.pictures`.
            engine = cached_engine(
                model.model_id, lambda: graph.value, precision="float32", threads=1
            )
            extract(
                _inputs(batches),
                model=engine,
                append=lambda batch: made.append(_query_rows(batch, model)),
                context=RowContext(
                    run_id="",
                    model_id=model.model_id,
                    engine=engine.name,
                    precision=engine.precision,
                    dimension=model.dimension,
                    schema=FEATURE_SCHEMA,
                ),
                decoder=decoder,
                reuse=ContentReuse(None, None),
                batch_size=_BATCH,
                max_bytes=DecodeLimits().max_bytes,
            )
        yield from made

    return run


def _inputs(batches: Batches) -> Iterator[PictureInput]:
    for batch in batches:
        for row in batch.to_pylist():
            yield PictureInput(image_id=row["uri"], uri=row["uri"], size=row["size"])


def _query_rows(batch: pa.RecordBatch, model: QueryModel) -> pa.RecordBatch:
    passed = pc.equal(batch.column("status"), OK).to_numpy(zero_copy_only=False)
    kept = pa.array(np.flatnonzero(passed))
    errors = np.array(batch.column("error").to_pylist(), dtype=object)
    features = batch.column("features").take(kept)
    return _checked(batch.column("image_id"), features, kept, errors, model.dimension, model.metric)
