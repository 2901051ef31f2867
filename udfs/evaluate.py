"""The tasks of evaluate-index: reading rows, exact distances and labels of shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError
from pool3.filters.columns import column_of
from pool3.index.shards.reader import ShardReader
from pool3.search.evaluate import TrueDistances
from pool3.vectors.exact import exact_nearest
from udfs.search import GroupedSnapshot
from udfs.tasks import Batches, Broadcast, TaskFunction, shards_of, summary

# An exact search holds a block of 4096 distances of each query.
_QUERIES_AT_ONCE = 1000


@dataclass(frozen=True)
class Queries:
    """Queries as tasks need them; broadcast.

    Attributes
    ----------
    ids
        q ids. A query whose id is an image_id of the index does not find that row.
    vectors
        float32, (q, d).
    """

    ids: Sequence[str]
    vectors: npt.NDArray[np.float32]

    def blocks(self) -> Iterator[Queries]:
        """Yield the queries in blocks that are searched exactly at once."""
        for start in range(0, len(self.ids), _QUERIES_AT_ONCE):
            end = start + _QUERIES_AT_ONCE
            yield Queries(self.ids[start:end], self.vectors[start:end])


def take_rows(
    index: Broadcast[GroupedSnapshot], drawn: Mapping[int, npt.NDArray[np.int64]]
) -> TaskFunction:
    """Return the function that reads the drawn rows of shards.

    Its summaries have ``ids``; the payload is their vectors, float32. There is none for a shard
    without drawn rows.

    Parameters
    ----------
    index
        The index.
    drawn
        As `pool3.search.evaluate.drawn_rows` returns it.
    """

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            if entry.number in drawn:
                yield taken_rows(index.value.shard(entry.number), drawn[entry.number])

    return run


def taken_rows(reader: ShardReader, drawn: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Return the summary of some rows of a shard, given by their positions among its live rows."""
    rows = drawn if reader.live is None else np.flatnonzero(reader.live)[drawn]
    ids = [reader.ids.image_id(int(row)) for row in rows]
    vectors = reader.rows_at(rows).astype("<f4")
    return summary({"ids": ids}, vectors.tobytes())


def measure_exactly(
    index: Broadcast[GroupedSnapshot], queries: Broadcast[Queries], k: int
) -> TaskFunction:
    """Return the function that measures the exact distances of queries to their k nearest rows.

    Its summaries' payloads are `TrueDistances` of all queries in one shard, float64, the radius in
    the last column; `true_distances` reads them.
    """

    def run(batches: Batches) -> Batches:
        metric = index.value.snapshot.manifest.metric
        for entry in shards_of(batches):
            yield exact_distances(index.value.shard(entry.number), queries.value, metric, k)

    return run


def exact_distances(reader: ShardReader, queries: Queries, metric: str, k: int) -> pa.RecordBatch:
    """Return the summary of the k nearest rows of each query in one shard."""
    nearest = [_nearest(reader, block, metric, k) for block in queries.blocks()]
    return summary({}, np.concatenate(nearest).tobytes())


def _nearest(reader: ShardReader, queries: Queries, metric: str, k: int) -> npt.NDArray[np.float64]:
    own = [reader.find(image_id) for image_id in queries.ids]
    nearest = exact_nearest(
        queries.vectors,
        reader.vectors,
        metric,
        most=k,
        own_rows=np.array([-1 if row is None else row for row in own], dtype=np.int64),
        live=reader.live,
    )
    return np.hstack([nearest.distances, nearest.radius[:, None]])


def true_distances(payload: bytes, n_queries: int) -> TrueDistances:
    """Read a payload of `measure_exactly`."""
    array = np.frombuffer(payload).reshape(n_queries, -1)
    return TrueDistances(array[:, :-1], array[:, -1])


def read_labels(
    index: Broadcast[GroupedSnapshot], wanted: Broadcast[Set[str]], column: str
) -> TaskFunction:
    """Return the function that reads the labels of some rows, and counts all labels.

    Its summaries have ``labels``, by image_id, and ``counts`` of every label, over live rows.

    Parameters
    ----------
    index
        The index.
    wanted
        The image_ids of the rows whose labels are read.
    column
        A column of the metadata, as `pool3.filters.columns` resolves it.

    Raises
    ------
    UsageError
        When the task runs, if a shard has no metadata or no such column.
    """

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            yield shard_labels(index.value.shard(entry.number), wanted.value, column)

    return run


def shard_labels(reader: ShardReader, wanted: Set[str], column: str) -> pa.RecordBatch:
    """Return the summary of the labels of one shard; see `read_labels`."""
    if reader.metadata is None:
        raise UsageError(
            f"expected metadata with a column {column!r} for --labels, found none in the "
            "index; build it from a table that has the column, or with --metadata"
        )
    rows = reader.metadata.table()
    labels = pc.cast(column_of(rows, rows.schema, column, argument="--labels"), pa.string())
    ids = reader.ids.table().column("image_id")
    if reader.live is not None:
        live = pa.array(reader.live)
        ids, labels = ids.filter(live), labels.filter(live)
    counts = Counter(labels.drop_null().to_pylist())
    selected = pc.is_in(ids, value_set=pa.array(sorted(wanted), pa.string()))
    by_id = dict(
        zip(ids.filter(selected).to_pylist(), labels.filter(selected).to_pylist(), strict=True)
    )
    return summary({"labels": by_id, "counts": counts})
