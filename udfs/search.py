"""A distributed search: each task asks some shards, and the answers to each query are merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from pool3.features.vectors import SkippedRows
from pool3.index.format.manifest import Manifest
from pool3.index.recall.effort import Effort
from pool3.index.reduction import Reduction
from pool3.index.shards.reader import ShardReader
from pool3.search.group import GroupAnswer, GroupSearch, merged, shard_groups
from pool3.storage.names import part_name
from pool3.storage.result_table import ResultWriter
from udfs.queries import NOT_OK
from udfs.tasks import Batches, TaskFunction, summary

#: The answer of one group of shards to one query; a query without a vector passes with its error.
PART_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("keys", pa.binary()),  # float64
        pa.field("positions", pa.binary()),  # int32
        pa.field("distances", pa.binary()),  # float64
        pa.field("ids", pa.list_(pa.string())),
        pa.field("error", pa.string()),
    ]
)
SPARK_PART_SCHEMA: T.StructType = from_arrow_schema(PART_SCHEMA)

ANSWER_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),  # from 1
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("distance", pa.float64(), nullable=False),
        pa.field("model_id", pa.string()),  # null in an index of foreign vectors
        pa.field("snapshot_id", pa.int64(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ]
)

_ROWS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class OpenIndex:
    """What tasks need to open their shards of a snapshot; broadcast.

    Attributes
    ----------
    groups
        The numbers of the shards that are searched together.
    """

    uri: str
    manifest: Manifest
    reduction: Reduction
    groups: Sequence[Sequence[int]]

    @classmethod
    def of(cls, uri: str, manifest: Manifest, reduction: Reduction, max_bytes: int) -> OpenIndex:
        """Group the shards so that a task opens files of at most `max_bytes`."""
        return cls(
            uri=uri,
            manifest=manifest,
            reduction=reduction,
            groups=shard_groups(manifest, max_bytes),
        )

    def search(self, group: int) -> GroupSearch:
        """Open the shards of one group."""
        return GroupSearch(self.uri, self.manifest, self.reduction, self.groups[group])

    def shard(self, number: int) -> ShardReader:
        """Open one shard."""
        return ShardReader(self.uri, self.manifest.shards[number], self.manifest, self.reduction)


def search_parts(index: Any, effort: Effort) -> TaskFunction:
    """Return the function that searches the shards of one group, yielding rows of `PART_SCHEMA`.

    Parameters
    ----------
    index
        Spark broadcast of an `OpenIndex`.
    effort
        How far to look in the whole index.
    """

    def run(batches: Batches) -> Batches:
        search: GroupSearch | None = None
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                rows = batch.slice(start, _ROWS_AT_ONCE).to_pylist()
                if search is None:
                    search = index.value.search(rows[0]["part"])
                found = [_found(search, row, effort) for row in rows]
                yield pa.RecordBatch.from_pylist(found, schema=PART_SCHEMA)

    return run


def _found(search: GroupSearch, row: dict[str, Any], effort: Effort) -> dict[str, Any]:
    common = {"query_id": row["query_id"], "part": row["part"], "error": row["error"]}
    if row["error"] is not None:
        return common
    part = search.find(np.frombuffer(row["vector"], "<f4"), effort)
    return {
        **common,
        "keys": part.keys.tobytes(),
        "positions": part.positions.tobytes(),
        "distances": part.distances.tobytes(),
        "ids": part.ids,
    }


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """Where answers are written, and what stands in each row."""

    table_uri: str
    run_id: str
    model_id: str | None
    snapshot_id: int
    effort: Effort


def write_answers(settings: AnswerSettings) -> TaskFunction:
    """Return the function that merges what `by_query` brought together and stores the answers.

    Its summary has ``file``, None without rows, ``ok``, and a `SkippedRows` as a dict.
    """

    def run(batches: Batches) -> Batches:
        skipped_rows, n_answered = SkippedRows(), 0
        context = TaskContext.get()
        name = part_name(settings.run_id, context.partitionId() if context is not None else 0)
        with ResultWriter(settings.table_uri, name, ANSWER_SCHEMA) as writer:
            rows: list[tuple[str, int, str, float]] = []
            for query_id, found in answers(batches, settings.effort, skipped_rows):
                n_answered += 1
                rows += [(query_id, rank, *hit) for rank, hit in enumerate(found, start=1)]
                if len(rows) >= _ROWS_AT_ONCE * settings.effort.k:
                    writer.append(_table(rows, settings))
                    rows = []
            writer.append(_table(rows, settings))
            file = writer.finish()
        told = {"file": None if file is None else file.as_dict(), "ok": n_answered}
        yield summary({**told, **skipped_rows.as_dict()})

    return run


def answers(
    batches: Batches, effort: Effort, skipped_rows: SkippedRows
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Yield each query's id and its nearest, and count those that could not be searched with."""
    for query_id, rows in groupby(_rows(batches), key=itemgetter("query_id")):
        parts = []
        for row in rows:
            if row["error"] == NOT_OK:
                skipped_rows.skipped += 1
            elif row["error"] is not None:
                skipped_rows.add(row["error"], [query_id])
            else:
                parts.append(_part(row))
        if parts:
            yield query_id, merged(parts, effort)


def _rows(batches: Batches) -> Iterator[dict[str, Any]]:
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
            yield from batch.slice(start, _ROWS_AT_ONCE).to_pylist()


def _part(row: dict[str, Any]) -> GroupAnswer:
    return GroupAnswer(
        keys=np.frombuffer(row["keys"]),
        positions=np.frombuffer(row["positions"], np.int32),
        distances=np.frombuffer(row["distances"]),
        ids=row["ids"],
    )


def _table(rows: Sequence[tuple[str, int, str, float]], settings: AnswerSettings) -> pa.Table:
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    same = (settings.model_id, settings.snapshot_id, settings.run_id)
    columns += [[value] * len(rows) for value in same]
    return pa.table(columns, schema=ANSWER_SCHEMA)
