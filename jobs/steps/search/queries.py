"""Queries as a DataFrame, whatever they are named by: a table of vectors, or pictures."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from jobs.steps.tasks import map_files, require_unique, spread
from pool3 import storage
from pool3.errors import InvalidIndex, UsageError
from pool3.features.vectors import vector_dimension
from pool3.index.format.manifest import Manifest
from pool3.index.snapshots.snapshot import Snapshot
from pool3.models.directory import read_model
from pool3.search.queries import QueryTable, open_queries, require_same_model
from pool3.storage import StoredObject
from udfs.queries import (
    ID_SCHEMA,
    PICTURE_SCHEMA,
    SPARK_QUERY_SCHEMA,
    QueryModel,
    list_query_ids,
    picture_queries,
    read_queries,
)

# A task keeps the vectors of its pictures until all are done.
_PICTURES_A_TASK = 2000
# Some more than cores, so that a slow one does not hold up the rest.
_TASKS_A_CORE = 3


def query_frame(spark: SparkSession, where: str, snapshot: Snapshot) -> DataFrame:
    """Return queries as rows of `udfs.queries.QUERY_SCHEMA`, each query_id once.

    Parameters
    ----------
    where
        As for `pool3.search.queries.open_queries`.
    snapshot
        The one that they search; pictures go through its own copy of its model.

    Raises
    ------
    UsageError
        There are no queries at `where`, they do not fit this index, or an id stands twice.
    """
    opened = open_queries(where)
    if isinstance(opened, QueryTable):
        return _table_queries(spark, opened, snapshot.manifest)
    return _picture_queries(spark, opened, snapshot.uri, snapshot.manifest)


def _table_queries(spark: SparkSession, queries: QueryTable, manifest: Manifest) -> DataFrame:
    require_same_model(queries, manifest)
    table = queries.table
    dimension = vector_dimension(table)
    if dimension != manifest.dimension:
        raise UsageError(
            f"expected vectors of {manifest.dimension} numbers as queries, found {dimension} in "
            f"{table.uri}; extract them with the index's model"
        )
    ids = map_files(spark, table.files, list_query_ids(queries), ID_SCHEMA)
    require_unique(ids, "query_id", named=queries.id_column, where=table.uri)
    function = read_queries(queries, dimension=manifest.dimension, metric=manifest.metric)
    return map_files(spark, table.files, function, SPARK_QUERY_SCHEMA)


def _picture_queries(
    spark: SparkSession, pictures: Sequence[StoredObject], index_uri: str, manifest: Manifest
) -> DataFrame:
    if manifest.model is None:
        raise UsageError(
            f"{index_uri} was built from vectors that came without their model, so that pictures "
            "cannot be its queries; name a table of vectors with --queries"
        )
    uri = storage.join(index_uri, manifest.model)
    model = read_model(uri)
    if model.model_id != manifest.model_id:
        raise InvalidIndex(f"{uri} must hold the model {manifest.model_id}; found {model.model_id}")
    settings = QueryModel(
        model_id=model.model_id,
        graph_sha256=model.graph_sha256,
        dimension=manifest.dimension,
        metric=manifest.metric,
        input_size=model.input_size,
        resize=model.resize,
        colour=model.colour,
    )
    function = picture_queries(settings, spark.sparkContext.broadcast(model.graph))
    rows = pa.table(
        {
            "uri": [picture.uri for picture in pictures],
            "size": [picture.size for picture in pictures],
        }
    )
    n_tasks = max(
        min(len(pictures), _TASKS_A_CORE * spark.sparkContext.defaultParallelism),
        -(-len(pictures) // _PICTURES_A_TASK),
    )
    return spread(spark, rows, PICTURE_SCHEMA, n_tasks).mapInArrow(function, SPARK_QUERY_SCHEMA)
