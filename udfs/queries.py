"""Queries of a search: read from a table of vectors, or made from pictures by a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
from pool3.features.vectors import ids_of, missing_ids
from pool3.images.decode import DecodeLimits
from pool3.images.pool import DecodePool
from pool3.search.queries import QueryTable
from pool3.vectors.usable import check_vectors
from udfs.tasks import Batches, Broadcast, TaskFunction, files_of

#: A query: its float32 vector, little-endian, or the error because of which it has none.
QUERY_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("vector", pa.binary()),
        pa.field("error", pa.string()),
    ]
)
SPARK_QUERY_SCHEMA: T.StructType = from_arrow_schema(QUERY_SCHEMA)

#: The error of a row whose status in its table is not ok: it is skipped, and is no failure.
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
    """Return the function that yields the ids of files, as rows of `ID_SCHEMA`."""

    def run(batches: Batches) -> Batches:
        return query_ids(batches, queries)

    return run


def query_ids(batches: Batches, queries: QueryTable) -> Batches:
    """Yield the ids of files, without null and empty ones."""
    for file in files_of(batches):
        for batch in queries.table.read(file, [queries.id_column]):
            ids = ids_of(batch, queries.id_column)
            ids = ids.filter(pc.not_equal(ids, ""))
            yield pa.RecordBatch.from_arrays([ids], ID_SCHEMA.names)


def read_queries(queries: QueryTable, *, dimension: int, metric: str) -> TaskFunction:
    """Return the function that reads files and yields rows of `QUERY_SCHEMA`."""

    def run(batches: Batches) -> Batches:
        return table_queries(batches, queries, dimension, metric)

    return run


def table_queries(batches: Batches, queries: QueryTable, dimension: int, metric: str) -> Batches:
    """Yield the rows of files as queries."""
    has_status = queries.has_status
    columns = [queries.id_column, "features", *(["status"] if has_status else [])]
    for file in files_of(batches):
        for batch in queries.table.read(file, columns):
            ok = _is_ok(batch) if has_status else np.ones(batch.num_rows, dtype=np.bool_)
            errors = np.where(ok, None, NOT_OK)  # type: ignore[call-overload]
            ids = ids_of(batch, queries.id_column)
            yield _checked(ids, batch.column("features"), ok, errors, dimension, metric)


def _is_ok(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    equal = pc.equal(batch.column("status"), OK).to_numpy(zero_copy_only=False)
    return np.asarray(equal)


def _checked(
    ids: pa.Array,
    features: pa.Array,
    ok: npt.NDArray[np.bool_],
    errors: npt.NDArray[np.object_],
    dimension: int,
    metric: str,
) -> pa.RecordBatch:
    """Return rows of `QUERY_SCHEMA`; vectors of rows that are not ok are not looked at."""
    ok_rows = np.flatnonzero(ok)
    checked = check_vectors(features.take(pa.array(ok_rows)), dimension=dimension, metric=metric)
    for reason, rows in checked.rejected.items():
        errors[ok_rows[rows]] = reason
    vectors: list[bytes | None] = [None] * len(ids)
    for row, vector in zip(ok_rows[checked.rows], checked.vectors.astype("<f4"), strict=True):
        vectors[row] = vector.tobytes()
    for reason, missing in missing_ids(ids).items():
        errors[missing & (errors == None)] = reason  # noqa: E711
        for row in np.flatnonzero(missing):
            vectors[row] = None  # so that it goes to one group of shards only, and is counted once
    return pa.RecordBatch.from_arrays(
        [ids, pa.array(vectors, pa.binary()), pa.array(errors, pa.string())], schema=QUERY_SCHEMA
    )


@dataclass(frozen=True, kw_only=True)
class QueryModel:
    """The index's model as tasks need it, besides its graph."""

    model_id: str
    graph_sha256: str
    dimension: int
    metric: str
    input_size: int
    resize: str
    colour: str


def picture_queries(model: QueryModel, graph: Broadcast[bytes]) -> TaskFunction:
    """Return the function that extracts pictures with the model and yields rows of `QUERY_SCHEMA`.

    Parameters
    ----------
    model
        See `QueryModel`.
    graph
        The frozen graph; read only by a worker that has not loaded the model yet.
    """

    def run(batches: Batches) -> Batches:
        return queries_of_pictures(batches, model, lambda: graph.value)

    return run


def queries_of_pictures(
    batches: Batches, model: QueryModel, read_graph: Callable[[], bytes]
) -> Batches:
    """Yield rows of `PICTURE_SCHEMA` as queries, whose ids are the uris."""
    queries: list[pa.RecordBatch] = []
    with DecodePool(
        processes=1, size=model.input_size, resize=model.resize, colour=model.colour
    ) as decoder:
        # In float32, as a search with one picture does; see `pool3.search.pictures`.
        engine = cached_engine(model.graph_sha256, read_graph, precision="float32", threads=1)
        extract(
            _inputs(batches),
            model=engine,
            append=lambda batch: queries.append(_query_rows(batch, model)),
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
    yield from queries


def _inputs(batches: Batches) -> Iterator[PictureInput]:
    for batch in batches:
        for row in batch.to_pylist():
            yield PictureInput(image_id=row["uri"], uri=row["uri"], size=row["size"])


def _query_rows(batch: pa.RecordBatch, model: QueryModel) -> pa.RecordBatch:
    ids, features = batch.column("image_id"), batch.column("features")
    errors = np.array(batch.column("error").to_pylist(), dtype=object)
    return _checked(ids, features, _is_ok(batch), errors, model.dimension, model.metric)
