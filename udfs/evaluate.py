"""What evaluate-index asks of each shard: some rows, exact distances, labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError
from pool3.filters.columns import column_of
from pool3.index.shards.reader import ShardReader
from pool3.search.evaluate import TrueDistances
from pool3.vectors.exact import exact_nearest
from udfs.tasks import Batches, TaskFunction, shards_of, summary

# An exact search holds a block of 4096 distances of each query.
_QUERIES_AT_ONCE = 1000


@dataclass(frozen=True)
class Queries:
    """Queries as tasks need them; broadcast.

    Attributes
    ----------
    ids
        q ids. One that is an image_id of the index does not find itself.
    vectors
        float32, (q, d).
    """

    ids: Sequence[str]
    vectors: npt.NDArray[np.float32]

    def part(self, start: int) -> Queries:
        """Return as many queries as are searched exactly at once."""
        end = start + _QUERIES_AT_ONCE
        return Queries(self.ids[start:end], self.vectors[start:end])


def take_rows(index: Any, drawn: Mapping[int, npt.NDArray[np.int64]]) -> TaskFunction:
    """Return the function that reads the drawn rows of its shards.

    Its summaries have ``ids``; the payload is their vectors, float32.

    Parameters
    ----------
    index
        Spark broadcast of an `udfs.search.GroupedSnapshot`.
    drawn
        As `pool3.search.evaluate.drawn_rows` returns it.
    """

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            if entry.number not in drawn:
                continue
            reader = index.value.shard(entry.number)
            rows = drawn[entry.number]
            if reader.live is not None:
                rows = np.flatnonzero(reader.live)[rows]
            ids = [reader.ids.image_id(int(row)) for row in rows]
            vectors = reader.rows_at(rows).astype("<f4")
            yield summary({"ids": ids}, vectors.tobytes())

    return run


def measure_exactly(index: Any, queries: Any, k: int) -> TaskFunction:
    """Return the function that finds how far the k nearest rows of each query are in its shards.

    Its summaries' payloads are `TrueDistances` of all queries, float64, the radius in the last
    column.

    Parameters
    ----------
    index, queries
        Spark broadcasts of an `udfs.search.GroupedSnapshot` and of `Queries`.
    """

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            reader = index.value.shard(entry.number)
            asked, metric = queries.value, index.value.snapshot.manifest.metric
            parts = [
                _nearest(reader, asked.part(start), metric, k)
                for start in range(0, len(asked.ids), _QUERIES_AT_ONCE)
            ]
            yield summary({}, np.concatenate(parts).tobytes())

    return run


def _nearest(reader: ShardReader, queries: Queries, metric: str, k: int) -> npt.NDArray[np.float64]:
    own = [reader.find(image_id) for image_id in queries.ids]
    found = exact_nearest(
        queries.vectors,
        reader.vectors,
        metric,
        most=k,
        own_rows=np.array([-1 if row is None else row for row in own], dtype=np.int64),
        live=reader.live,
    )
    return np.hstack([found.distances, found.radius[:, None]])


def true_distances(payload: bytes, n_queries: int) -> TrueDistances:
    """Read a payload of `measure_exactly`."""
    array = np.frombuffer(payload).reshape(n_queries, -1)
    return TrueDistances(array[:, :-1], array[:, -1])


def read_labels(index: Any, wanted: Any, column: str) -> TaskFunction:
    """Return the function that reads the labels of some rows, and counts all labels.

    Its summaries have ``labels``, by image_id, and ``counts`` of every label, over live rows.

    Parameters
    ----------
    index
        Spark broadcast of an `udfs.search.GroupedSnapshot`.
    wanted
        Spark broadcast of a set of image_ids.
    column
        A column of the metadata, as `pool3.filters.columns` finds it.
    """

    def run(batches: Batches) -> Batches:
        for entry in shards_of(batches):
            reader = index.value.shard(entry.number)
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
            here = pc.is_in(ids, value_set=pa.array(sorted(wanted.value), pa.string()))
            found = dict(
                zip(ids.filter(here).to_pylist(), labels.filter(here).to_pylist(), strict=True)
            )
            yield summary({"labels": found, "counts": counts})

    return run
