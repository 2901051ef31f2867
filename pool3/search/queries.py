"""Sources of a batch of queries: a table of vectors, or pictures.

Deliberately not here: the search, and running a model over the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pool3 import storage
from pool3.errors import UsageError
from pool3.features.table import OWN_COLUMNS, FeatureTable, open_rows
from pool3.filters.columns import column_of, column_path
from pool3.index.format.manifest import Manifest
from pool3.inputs.lake_tables import table_kind
from pool3.inputs.pictures import list_pictures
from pool3.inputs.table_files import PARQUET, format_of
from pool3.storage import StoredObject

_TEXT = pa.string()


@dataclass(frozen=True, kw_only=True)
class QueryTable:
    """A table of query vectors.

    Attributes
    ----------
    table
        The table.
    id_column
        ``query_id``, or ``image_id`` if the table has no ``query_id``.
    columns
        Names of all columns of the table.
    """

    table: FeatureTable
    id_column: str
    columns: tuple[str, ...]

    @property
    def has_status(self) -> bool:
        """Whether the rows are those of a feature table of ours, where ``status`` counts."""
        return set(self.columns) >= OWN_COLUMNS


def open_queries(where: str) -> QueryTable | tuple[StoredObject, ...]:
    """Open a table of query vectors, or list pictures if there is no table.

    Parameters
    ----------
    where
        A feature table, a Delta table, or a folder or file of Parquet or JSON lines with
        ``features`` and ``query_id`` or ``image_id``; or a folder, a file or a glob of pictures.

    Raises
    ------
    UsageError
        When there is neither, or the table lacks the columns.
    """
    if table_kind(storage.canonical_uri(where)) is not None:
        return _query_table(where)
    pictures = list_pictures(where).objects
    formats = {format_of(picture.uri) for picture in pictures}
    if PARQUET in formats or None not in formats:
        return _query_table(where)
    return pictures


def _query_table(where: str) -> QueryTable:
    table = open_rows(where, what="a table of queries", option="--queries")
    names = table.schema().names
    id_column = "query_id" if "query_id" in names else "image_id"
    if id_column not in names or "features" not in names:
        raise UsageError(
            f"expected columns features and query_id or image_id in {table.uri}, found "
            f"{', '.join(names) or 'none'}; rename the columns or name another table"
        )
    return QueryTable(table=table, id_column=id_column, columns=tuple(names))


def require_same_model(queries: QueryTable, manifest: Manifest) -> None:
    """Check that query vectors are of the index's model, where both state theirs.

    Raises
    ------
    UsageError
        When they are of another model.
    """
    if manifest.model_id is None or "model_id" not in queries.columns:
        return
    for file in queries.table.files:
        for batch in queries.table.read(file, ["model_id"]):
            if batch.num_rows:
                model_id = batch.column(0)[0].as_py()
                if model_id not in (None, manifest.model_id):
                    raise UsageError(
                        f"expected queries of the index's model {manifest.model_id}, found vectors "
                        f"of {model_id} in {queries.table.uri}; extract them with the index's model"
                    )
                return


def labels_of(where: str, column: str) -> dict[str, str | None]:
    """Return a column of a table of queries as text, by query id.

    Raises
    ------
    UsageError
        When `where` has pictures, or the table has no such column.
    """
    queries = open_queries(where)
    if not isinstance(queries, QueryTable):
        raise UsageError(
            f"expected a table of queries with a column {column!r} for --labels, found pictures at "
            f"{where}; name a table, or leave --labels out"
        )
    labels: dict[str, str | None] = {}
    has_column = _resolves(queries.table.log_schema(), column)
    for file in queries.table.files:
        for batch in queries.table.read(file, None):
            values = pa.nulls(batch.num_rows, pa.string())
            if _resolves(batch.schema, column):  # older files may lack the column
                has_column = True
                rows = pa.Table.from_batches([batch]).drop_columns(["features"])
                values = pc.cast(column_of(rows, rows.schema, column, argument="--labels"), _TEXT)
            ids = pc.cast(batch.column(queries.id_column), _TEXT)
            labels.update(zip(ids.to_pylist(), values.to_pylist(), strict=True))
    if not has_column:
        raise UsageError(
            f"expected a column {column!r} for --labels in {queries.table.uri}, found "
            f"{', '.join(queries.columns)}; name another column, or leave --labels out"
        )
    return labels


def _resolves(schema: pa.Schema, column: str) -> bool:
    try:
        column_path(schema, column, argument="--labels")
    except UsageError:
        return False
    return True
