"""The tasks of find-duplicates: rows as queries, pairs of close rows, rows of the result."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from pool3.index.recall.effort import Effort
from pool3.index.shards.reader import ShardReader
from pool3.search.duplicates import DuplicateSearch, cluster_id
from pool3.storage.names import part_name
from pool3.storage.result_table import ResultWriter
from udfs.search import GroupedSnapshot
from udfs.tasks import Batches, Broadcast, TaskFunction, partition_number, shards_of, summary

#: A live row whose metadata has the digest of the picture's bytes.
CONTENT_SCHEMA = T.StructType(
    [
        T.StructField("image_id", T.StringType(), nullable=False),
        T.StructField("shard", T.IntegerType(), nullable=False),
        T.StructField("row", T.LongType(), nullable=False),
        T.StructField("sha256", T.StringType(), nullable=False),
    ]
)
#: A row that is a query: its shard, its row there, and its vector as it is stored.
QUERY_ROW_SCHEMA = T.StructType(
    [
        T.StructField("image_id", T.StringType(), nullable=False),
        T.StructField("shard", T.IntegerType(), nullable=False),
        T.StructField("row", T.LongType(), nullable=False),
        T.StructField("vector", T.BinaryType(), nullable=False),
    ]
)
#: Two rows within the threshold, the smaller id first; without a second id, a search that reached
#: its limit.
PAIR_SCHEMA = T.StructType(
    [
        T.StructField("first", T.StringType(), nullable=False),
        T.StructField("second", T.StringType()),
        T.StructField("distance", T.DoubleType()),
    ]
)
DUPLICATE_SCHEMA = pa.schema(
    [
        pa.field("cluster_id", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("representative_id", pa.string(), nullable=False),
        pa.field("distance_to_representative", pa.float64(), nullable=False),
    ]
)
MEMBER_SCHEMA: T.StructType = from_arrow_schema(pa.schema(list(DUPLICATE_SCHEMA)[1:]))

#: Rows by the number of their shard.
HiddenRows = Mapping[int, npt.NDArray[np.int64]]

_SHA256 = "content_sha256"
_ROWS_AT_ONCE = 1024


def list_content(index: Broadcast[GroupedSnapshot]) -> TaskFunction:
    """Return the function that yields the live rows of shards, as rows of `CONTENT_SCHEMA`."""

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            yield from content_rows(index.value.shard(entry.number))

    return run


def content_rows(reader: ShardReader) -> Batches:
    """Yield the live rows of one shard that have the digest of their picture's bytes."""
    if reader.metadata is None or _SHA256 not in reader.metadata.schema.names:
        return
    digests = pc.cast(reader.metadata.table().column(_SHA256), pa.string())
    valid = pc.is_valid(digests).to_numpy()
    rows = np.flatnonzero(valid if reader.live is None else valid & reader.live)
    taken = pa.array(rows)
    yield from pa.table(
        [
            reader.ids.table().column("image_id").take(taken),
            pa.array(np.full(len(rows), reader.entry.number, np.int32)),
            taken,
            digests.take(taken),
        ],
        names=CONTENT_SCHEMA.fieldNames(),
    ).to_batches(max_chunksize=1 << 16)


def query_rows(index: Broadcast[GroupedSnapshot], hidden: Broadcast[HiddenRows]) -> TaskFunction:
    """Return the function that yields the live rows of shards, as rows of `QUERY_ROW_SCHEMA`.

    Parameters
    ----------
    index
        The index.
    hidden
        The rows to leave out, by the number of their shard.
    """

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            reader = index.value.shard(entry.number)
            yield from rows_as_queries(reader, hidden.value.get(entry.number))

    return run


def rows_as_queries(reader: ShardReader, hidden: npt.NDArray[np.int64] | None) -> Batches:
    """Yield the live rows of one shard with their vectors, without the `hidden` rows."""
    entry = reader.entry
    selected = np.ones(entry.rows, np.bool_) if reader.live is None else reader.live.copy()
    if hidden is not None:
        selected[hidden] = False
    ids = reader.ids.table().column("image_id")
    for start in range(0, entry.rows, _ROWS_AT_ONCE):
        rows = start + np.flatnonzero(selected[start : start + _ROWS_AT_ONCE])
        vectors = [row.tobytes() for row in reader.rows_at(rows)]
        columns = [
            ids.slice(start, _ROWS_AT_ONCE).take(pa.array(rows - start)).combine_chunks(),
            pa.array(np.full(len(rows), entry.number, np.int32)),
            pa.array(rows),
            pa.array(vectors, pa.binary()),
        ]
        yield pa.RecordBatch.from_arrays(columns, names=QUERY_ROW_SCHEMA.fieldNames())


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """The settings of `pool3.search.duplicates.DuplicateSearch`."""

    effort: Effort
    threshold: float
    most: int


def find_pairs(
    index: Broadcast[GroupedSnapshot], hidden: Broadcast[HiddenRows], settings: PairSettings
) -> TaskFunction:
    """Return the function that searches one group of shards, yielding rows of `PAIR_SCHEMA`.

    Parameters
    ----------
    index, hidden
        As for `query_rows`.
    settings
        See `PairSettings`.
    """

    def run(batches: Batches) -> Batches:
        return pairs_of_group(batches, index.value, hidden.value, settings)

    return run


def pairs_of_group(
    batches: Batches, index: GroupedSnapshot, hidden: HiddenRows, settings: PairSettings
) -> Batches:
    """Search one group of shards with query rows, all of which have that group."""
    search: DuplicateSearch | None = None
    dtype = np.dtype(index.snapshot.manifest.vectors_dtype).newbyteorder("<")
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
            rows = batch.slice(start, _ROWS_AT_ONCE).to_pylist()
            if search is None:
                search = _search(index, rows[0]["group"], hidden, settings)
            yield _pair_batch([pair for row in rows for pair in _pairs_of(search, row, dtype)])


def _pair_batch(pairs: list[tuple[str, str | None, float | None]]) -> pa.RecordBatch:
    first, second, distance = zip(*pairs, strict=True) if pairs else ((), (), ())
    columns = [pa.array(first, pa.string()), pa.array(second, pa.string())]
    return pa.RecordBatch.from_arrays(
        [*columns, pa.array(distance, pa.float64())], names=PAIR_SCHEMA.fieldNames()
    )


def _search(
    index: GroupedSnapshot, group: int, hidden: HiddenRows, settings: PairSettings
) -> DuplicateSearch:
    return DuplicateSearch(
        index.snapshot,
        index.groups[group],
        effort=settings.effort,
        hidden=hidden,
        threshold=settings.threshold,
        most=settings.most,
    )


def _pairs_of(
    search: DuplicateSearch, row: dict[str, Any], dtype: np.dtype[Any]
) -> list[tuple[str, str | None, float | None]]:
    own = row["image_id"]
    vector = np.frombuffer(row["vector"], dtype).astype(np.float32)
    close = search.close_to(vector, (row["shard"], row["row"]))
    pairs: list[tuple[str, str | None, float | None]] = [
        (min(own, other), max(own, other), distance)
        for other, distance in zip(close.ids, close.distances, strict=True)
    ]
    return pairs if close.complete else [*pairs, (own, None, None)]


def write_duplicates(table_uri: str, run_id: str, n_largest: int) -> TaskFunction:
    """Return the function that stores clusters, whose members are rows of `MEMBER_SCHEMA`.

    All members of a cluster must be in one partition. The summary has ``file``, None without rows,
    ``clusters``, their number, and ``largest``: representative and size of the largest clusters.
    """

    def run(batches: Batches) -> Batches:
        return stored_clusters(batches, table_uri, part_name(run_id, partition_number()), n_largest)

    return run


def stored_clusters(batches: Batches, table_uri: str, name: str, n_largest: int) -> Batches:
    """Store clusters as one file of this name, and yield the summary."""
    sizes: Counter[str] = Counter()
    with ResultWriter(table_uri, name, DUPLICATE_SCHEMA) as writer:
        for batch in batches:
            owners = batch.column("representative_id").to_pylist()
            sizes.update(owners)
            ids = pa.array([cluster_id(owner) for owner in owners], pa.string())
            writer.append(pa.Table.from_arrays([ids, *batch.columns], schema=DUPLICATE_SCHEMA))
        file = writer.finish()
    stored = None if file is None else file.as_dict()
    largest_here = largest(sizes.items(), n_largest)
    yield summary({"file": stored, "clusters": len(sizes), "largest": largest_here})


def largest(sizes: Iterable[tuple[str, int]], n: int) -> list[tuple[str, int]]:
    """Return the n largest clusters, given by representative and size; ties by id."""
    return heapq.nsmallest(n, sizes, key=lambda cluster: (-cluster[1], cluster[0]))


def find_uris(index: Broadcast[GroupedSnapshot], ids: Broadcast[Sequence[str]]) -> TaskFunction:
    """Return the function that looks up the uris of pictures.

    Its summaries are ``{"uris"}``: the uris in one shard by image_id; there is none for a shard
    without uris.
    """

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            uris = uris_in(index.value.shard(entry.number), ids.value)
            if uris is not None:
                yield summary({"uris": uris})

    return run


def uris_in(reader: ShardReader, ids: Sequence[str]) -> dict[str, str | None] | None:
    """Return the uris of those ids that are live rows of a shard, None if the shard has no uris."""
    if reader.metadata is None or "uri" not in reader.metadata.schema.names:
        return None
    column = reader.metadata.schema.get_field_index("uri")
    rows = ((image_id, reader.find(image_id)) for image_id in ids)
    return {
        image_id: reader.metadata.value(row, column) for image_id, row in rows if row is not None
    }
