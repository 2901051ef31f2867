"""Distributed search: each task searches a group of shards; other tasks merge the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from pool3.features.vectors import SkippedRows
from pool3.index.recall.effort import Effort
from pool3.index.shards.reader import ShardReader
from pool3.index.snapshots.snapshot import Snapshot
from pool3.search.group import GroupAnswer, GroupSearch, merge_answers, shard_groups
from pool3.storage.names import part_name
from pool3.storage.result_table import ResultWriter
from udfs.queries import NOT_OK
from udfs.tasks import Batches, Broadcast, TaskFunction, partition_number, summary

#: The answer of one group of shards to one query; a query without a vector keeps its error.
GROUP_ANSWER_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string()),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("keys", pa.binary()),  # float64
        pa.field("positions", pa.binary()),  # int32
        pa.field("distances", pa.binary()),  # float64
        pa.field("ids", pa.list_(pa.string())),
        pa.field("error", pa.string()),
    ]
)
SPARK_GROUP_ANSWER_SCHEMA: T.StructType = from_arrow_schema(GROUP_ANSWER_SCHEMA)

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


@dataclass(frozen=True)
class GroupedSnapshot:
    """A snapshot whose shards are searched in groups, each by other tasks; broadcast.

    Attributes
    ----------
    groups
        The numbers of the shards that are searched together.
    """

    snapshot: Snapshot
    groups: Sequence[Sequence[int]]

    @classmethod
    def of(cls, snapshot: Snapshot, max_bytes: int) -> GroupedSnapshot:
        """Group the shards so that a task opens files of at most `max_bytes`."""
        return cls(snapshot, shard_groups(snapshot.manifest, max_bytes))

    def search(self, group: int) -> GroupSearch:
        """Open the shards of one group."""
        return GroupSearch(self.snapshot, self.groups[group])

    def shard(self, number: int) -> ShardReader:
        """Open one shard."""
        return ShardReader(self.snapshot.shard(number))


def search_group(index: Broadcast[GroupedSnapshot], effort: Effort) -> TaskFunction:
    """Return the function that searches one group of shards, yielding `GROUP_ANSWER_SCHEMA`.

    Parameters
    ----------
    index
        The index.
    effort
        The effort of a search in the whole index.
    """

    def run(batches: Batches) -> Batches:
        return answers_of_group(batches, index.value, effort)

    return run


def answers_of_group(batches: Batches, index: GroupedSnapshot, effort: Effort) -> Batches:
    """Search one group of shards with rows of queries, all of which have that group."""
    search: GroupSearch | None = None
    for rows in _row_blocks(batches):
        if search is None:
            search = index.search(rows[0]["group"])
        answer_rows = [_answer_row(search, row, effort) for row in rows]
        yield pa.RecordBatch.from_pylist(answer_rows, schema=GROUP_ANSWER_SCHEMA)


def _answer_row(search: GroupSearch, row: dict[str, Any], effort: Effort) -> dict[str, Any]:
    common = {"query_id": row["query_id"], "group": row["group"], "error": row["error"]}
    if row["error"] is not None:
        return common
    answer = search.find(np.frombuffer(row["vector"], "<f4"), effort)
    return {
        **common,
        "keys": answer.keys.tobytes(),
        "positions": answer.positions.tobytes(),
        "distances": answer.distances.tobytes(),
        "ids": answer.ids,
    }


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """Where answers are written, the values that all rows share, and the effort of the search."""

    table_uri: str
    run_id: str
    model_id: str | None
    snapshot_id: int
    effort: Effort


def write_answers(settings: AnswerSettings) -> TaskFunction:
    """Return the function that merges the group answers to each query and stores its hits.

    Its summary has ``file``, None without rows, ``ok``, the number of answered queries, and a
    `SkippedRows` as a dict.
    """

    def run(batches: Batches) -> Batches:
        return stored_answers(batches, settings, partition_number())

    return run


def stored_answers(batches: Batches, settings: AnswerSettings, partition: int) -> Batches:
    """Merge the group answers of one partition, store the hits as a file, and yield the summary."""
    skipped_rows, n_answered = SkippedRows(), 0
    name = part_name(settings.run_id, partition)
    with ResultWriter(settings.table_uri, name, ANSWER_SCHEMA) as writer:
        rows: list[tuple[str, int, str, float]] = []
        for query_id, hits in answers(batches, settings.effort, skipped_rows):
            n_answered += 1
            rows += [(query_id, rank, *hit) for rank, hit in enumerate(hits, start=1)]
            if len(rows) >= _ROWS_AT_ONCE * settings.effort.k:
                writer.append(_table(rows, settings))
                rows = []
        writer.append(_table(rows, settings))
        file = writer.finish()
    stored = None if file is None else file.as_dict()
    yield summary({"file": stored, "ok": n_answered, **skipped_rows.as_dict()})


def answers(
    batches: Batches, effort: Effort, skipped_rows: SkippedRows
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Yield each query's id and hits; count the queries without a vector in `skipped_rows`."""
    all_rows = chain.from_iterable(_row_blocks(batches))
    for query_id, rows in groupby(all_rows, key=itemgetter("query_id")):
        group_answers = []
        for row in rows:
            if row["error"] == NOT_OK:
                skipped_rows.skipped += 1
            elif row["error"] is not None:
                skipped_rows.add(row["error"], [query_id])
            else:
                group_answers.append(_group_answer(row))
        if group_answers:
            yield query_id, merge_answers(group_answers, effort)


def _row_blocks(batches: Batches) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in blocks, since a batch of them as Python objects would need much memory."""
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
            yield batch.slice(start, _ROWS_AT_ONCE).to_pylist()


def _group_answer(row: dict[str, Any]) -> GroupAnswer:
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
