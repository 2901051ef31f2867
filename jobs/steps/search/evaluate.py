"""The passes of evaluate-index over an index, seen from the driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import chain

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from jobs.steps.search.queries import query_frame
from jobs.steps.search.search import DistributedIndex
from pool3.errors import UsageError
from pool3.features.vectors import SkippedRows
from pool3.index.format.manifest import Manifest
from pool3.index.format.recall_curve import MEASURED_KS
from pool3.index.recall.effort import Effort, choose_effort
from pool3.search.evaluate import (
    Estimate,
    Hits,
    TrueDistances,
    drawn_rows,
    label_scores,
    without_own,
)
from pool3.search.queries import labels_of
from udfs.evaluate import Queries, measure_exactly, read_labels, take_rows, true_distances
from udfs.queries import NOT_OK, QUERY_SCHEMA, SPARK_QUERY_SCHEMA
from udfs.search import SPARK_GROUP_ANSWER_SCHEMA, GroupedSnapshot, answers, search_group


def efforts_by_k(
    manifest: Manifest, recall: float | None, rerank: int | None, search_k: int | None
) -> dict[int, Effort]:
    """Return the effort of a user's search for each k, one more for its own row."""
    efforts = {}
    for k in MEASURED_KS:
        if rerank is None or k <= rerank:
            effort = choose_effort(manifest, k, recall=recall, rerank=rerank, search_k=search_k)
            efforts[k] = replace(effort, k=k + 1, rerank=max(effort.rerank, k + 1))
    return efforts


class Evaluation:
    """The steps, each a pass of Spark over the shards.

    Parameters
    ----------
    spark
        The session.
    index
        An index with live rows.
    """

    def __init__(self, spark: SparkSession, index: GroupedSnapshot) -> None:
        self._spark = spark
        self._index = DistributedIndex(spark, index)

    def drawn(self, n: int, seed: int) -> Queries:
        """Return rows of the index as queries."""
        function = take_rows(
            self._index.broadcast, drawn_rows(self._index.snapshot.manifest, n, seed)
        )
        tasks = self._index.gather_shards(function, "drawing rows")
        ids = [image_id for task in tasks for image_id in task["ids"]]
        vectors = np.frombuffer(b"".join(task["payload"] for task in tasks), "<f4")
        return Queries(ids, vectors.reshape(len(ids), -1))

    def given(self, where: str) -> tuple[Queries, SkippedRows]:
        """Return the queries of a table or of pictures, and which cannot be searched with."""
        skipped_rows = SkippedRows()
        frame = query_frame(self._spark, where, self._index.snapshot)
        ids: list[str] = []
        vectors = []
        for row in frame.toArrow().to_pylist():
            if row["error"] is None:
                ids.append(row["query_id"])
                vectors.append(np.frombuffer(row["vector"], "<f4"))
            elif row["error"] == NOT_OK:
                skipped_rows.skipped += 1
            else:
                skipped_rows.add(row["error"], [row["query_id"]])
        if not ids:
            raise UsageError(f"expected queries that can be searched with in {where}, found none")
        return Queries(ids, np.stack(vectors)), skipped_rows

    def true_distances(self, queries: Queries, k: int) -> TrueDistances:
        """Return how far the k nearest rows of each query are."""
        function = measure_exactly(
            self._index.broadcast, self._spark.sparkContext.broadcast(queries), k
        )
        tasks = self._index.gather_shards(function, "searching exactly")
        by_task = [true_distances(task["payload"], len(queries.ids)) for task in tasks]
        return reduce(TrueDistances.merged, by_task)

    def search(self, queries: Queries, effort: Effort) -> list[Hits]:
        """Return the hits of each query without itself, as the index finds them."""
        rows = pa.table(
            [queries.ids, [row.tobytes() for row in queries.vectors], pa.nulls(len(queries.ids))],
            schema=QUERY_SCHEMA,
        )
        frame = self._spark.createDataFrame(rows, schema=SPARK_QUERY_SCHEMA)
        grouped = self._index.to_groups(frame, "query_id")
        function = search_group(self._index.broadcast, effort)
        group_answers = grouped.mapInArrow(function, SPARK_GROUP_ANSWER_SCHEMA).toArrow()
        ordered = group_answers.sort_by([("query_id", "ascending"), ("group", "ascending")])
        hits = dict(answers(iter(ordered.to_batches()), effort, SkippedRows()))
        return without_own([hits[own] for own in queries.ids], queries.ids, effort.k - 1)

    def by_label(
        self,
        queries: Queries,
        hits_by_k: Mapping[int, Sequence[Hits]],
        column: str,
        given: str | None,
    ) -> tuple[dict[int, Estimate | None], Estimate | None]:
        """Return precision@k and mAP; see `pool3.search.evaluate.label_scores`.

        Parameters
        ----------
        column
            Of the index's metadata, and of the table `given` where the queries come from one.
        """
        wanted = set(queries.ids)
        for hits in chain.from_iterable(hits_by_k.values()):
            wanted.update(image_id for image_id, _ in hits)
        function = read_labels(
            self._index.broadcast, self._spark.sparkContext.broadcast(wanted), column
        )
        labels: dict[str, str | None] = {}
        counts: Counter[str] = Counter()
        for task in self._index.gather_shards(function, "reading labels"):
            labels.update(task["labels"])
            counts.update(task["counts"])
        own = labels if given is None else labels_of(given, column)
        labelled = [(query_id, own.get(query_id)) for query_id in queries.ids]
        return label_scores(labelled, hits_by_k, labels, counts)
