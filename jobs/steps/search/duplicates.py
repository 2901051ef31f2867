"""The passes of find-duplicates over an index, seen from the driver: copies, pairs, clusters."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F

from jobs.options.find_duplicates import DuplicatesConfig
from jobs.runtime.report import Timed
from jobs.steps.search.search import DistributedIndex
from jobs.steps.tasks import gather
from pool3 import storage
from pool3.errors import UsageError
from pool3.index.format.manifest import Manifest
from pool3.index.recall.effort import choose_effort
from pool3.search.duplicates import check_threshold, cluster_id, cluster_sheet, representatives
from pool3.storage.tables import TableFile
from udfs.duplicates import (
    CONTENT_SCHEMA,
    PAIR_SCHEMA,
    QUERY_ROW_SCHEMA,
    HiddenRows,
    PairSettings,
    find_pairs,
    find_uris,
    largest,
    list_content,
    query_rows,
    write_duplicates,
)
from udfs.search import GroupedSnapshot

_DISTANCE = "distance_to_representative"

#: Nearly all rows have no duplicate, so that few neighbours are looked at first.
FIRST_K = 10

#: Members that a contact sheet shows besides the representative.
MAX_ON_SHEET = 20


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Clusters that were found.

    Attributes
    ----------
    members
        Rows of `udfs.duplicates.MEMBER_SCHEMA`.
    n_identical
        How many pictures have the bytes of another one.
    n_pairs, n_unfinished
        How many pairs lie within the threshold, and how many searches reached their limit.
    """

    members: DataFrame
    n_identical: int
    n_pairs: int
    n_unfinished: int


@dataclass(frozen=True, kw_only=True)
class StoredClusters:
    """The rows of the result, stored; `largest` has representatives and sizes."""

    files: list[TableFile]
    n_clusters: int
    largest: list[tuple[str, int]]

    def details(self) -> dict[str, object]:
        """Return what a report says of them."""
        return {
            "pictures": sum(file.rows for file in self.files),
            "clusters": self.n_clusters,
            "largest": [
                {"representative_id": owner, "pictures": size} for owner, size in self.largest
            ],
        }


class DuplicatePasses:
    """The steps, each a pass of Spark.

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

    @classmethod
    def of(cls, spark: SparkSession, index: GroupedSnapshot, threshold: float) -> DuplicatePasses:
        """Check that an index can have duplicates within a threshold.

        Raises
        ------
        UsageError
            Where its metric knows none, or it has no rows.
        """
        snapshot = index.snapshot
        check_threshold(threshold, snapshot.manifest.metric)
        if not snapshot.manifest.rows:
            raise UsageError(f"expected an index with rows, found none in {snapshot.uri}")
        return cls(spark, index)

    def copies(self) -> DataFrame:
        """Return the rows whose bytes are those of another, its id as ``original``, the first one.

        Columns: ``image_id, original, shard, row``.
        """
        content = self._index.map_shards(list_content(self._index.broadcast), CONTENT_SCHEMA)
        same = Window.partitionBy("sha256")
        return (
            content.withColumn("original", F.min("image_id").over(same))
            .where(F.col("image_id") != F.col("original"))
            .select("image_id", "original", "shard", "row")
        )

    def hidden(self, copies: DataFrame) -> HiddenRows:
        """Return the rows of copies by the number of their shard."""
        places = copies.select("shard", "row").toArrow()
        shards, rows = (places.column(name).to_numpy() for name in ("shard", "row"))
        return {int(number): np.sort(rows[shards == number]) for number in np.unique(shards)}

    def pairs(self, hidden: HiddenRows, settings: PairSettings) -> DataFrame:
        """Return rows of `PAIR_SCHEMA`, each pair once; the `hidden` rows are in none."""
        rows = self._spark.sparkContext.broadcast(hidden)
        queries = self._index.map_shards(query_rows(self._index.broadcast, rows), QUERY_ROW_SCHEMA)
        grouped = self._index.to_groups(queries, "image_id")
        pairs = grouped.mapInArrow(find_pairs(self._index.broadcast, rows, settings), PAIR_SCHEMA)
        return pairs.groupBy("first", "second").agg(F.min("distance").alias("distance"))

    def members(self, pairs: DataFrame, copies: DataFrame) -> DataFrame:
        """Return rows of `MEMBER_SCHEMA`: representatives, what is close to them, and copies."""
        ordered = pairs.select("first", "second").orderBy("first", "second")
        chosen = representatives((row.first, row.second) for row in ordered.toLocalIterator())
        table = pa.table({"representative_id": pa.array(chosen, pa.string())})
        leaders = self._spark.createDataFrame(table)
        own = _alone(leaders.select(F.col("representative_id").alias("image_id")))
        placed = _nearest(pairs, leaders).unionByName(own)
        # An original with a copy that is near nothing else represents itself.
        originals = copies.select(F.col("original").alias("image_id")).distinct()
        placed = placed.unionByName(_alone(originals.join(placed, "image_id", how="left_anti")))
        doubles = (
            copies.select(F.col("image_id").alias("copy"), F.col("original").alias("image_id"))
            .join(placed, "image_id", how="inner")
            .select(F.col("copy").alias("image_id"), "representative_id", _DISTANCE)
        )
        # The only neighbour of a representative may be nearer to another one.
        size = F.count("*").over(Window.partitionBy("representative_id"))
        clusters = placed.unionByName(doubles).withColumn("size", size).where(F.col("size") > 1)
        return clusters.select("image_id", "representative_id", _DISTANCE)

    def write(
        self, members: DataFrame, *, table_uri: str, run_id: str, n_largest: int
    ) -> StoredClusters:
        """Store the rows of the result."""
        n_tasks = self._spark.sparkContext.defaultParallelism
        ordered = members.repartition(n_tasks, "representative_id").sortWithinPartitions(
            "representative_id", _DISTANCE, "image_id"
        )
        function = write_duplicates(table_uri, run_id, n_largest)
        tasks = gather(ordered, function, label="writing clusters")
        return StoredClusters(
            files=[TableFile.from_dict(task["file"]) for task in tasks if task["file"] is not None],
            n_clusters=sum(task["clusters"] for task in tasks),
            largest=largest(
                [tuple(cluster) for task in tasks for cluster in task["largest"]], n_largest
            ),
        )

    def first_members(self, members: DataFrame, chosen: Sequence[str], most: int) -> list[Row]:
        """Return the first members of some clusters, each representative before the others."""
        rank = F.row_number().over(
            Window.partitionBy("representative_id").orderBy(
                F.col("image_id") != F.col("representative_id"), _DISTANCE, "image_id"
            )
        )
        wanted = members.where(F.col("representative_id").isin(*chosen))
        rows = wanted.withColumn("rank", rank).where(F.col("rank") <= most)
        return rows.orderBy("representative_id", "rank").collect()

    def uris(self, ids: Sequence[str]) -> dict[str, str]:
        """Return where some pictures are, without those of which the index does not know it."""
        wanted = self._spark.sparkContext.broadcast(ids)
        function = find_uris(self._index.broadcast, wanted)
        tasks = self._index.gather_shards(function, "finding pictures")
        return {image_id: uri for task in tasks for image_id, uri in task["uris"].items() if uri}


def _alone(ids: DataFrame) -> DataFrame:
    """Return pictures as their own representatives."""
    return ids.select(
        "image_id", F.col("image_id").alias("representative_id"), F.lit(0.0).alias(_DISTANCE)
    )


def _nearest(pairs: DataFrame, leaders: DataFrame) -> DataFrame:
    """Return the nearest representative of each picture that is a pair with one."""
    ways = [("first", "second"), ("second", "first")]
    both = [
        pairs.select(
            F.col(image_id).alias("image_id"), F.col(other).alias("representative_id"), "distance"
        )
        for image_id, other in ways
    ]
    neighbours = both[0].unionByName(both[1]).join(leaders, "representative_id", how="inner")
    best = F.min(F.struct("distance", "representative_id")).alias("best")
    return (
        neighbours.groupBy("image_id")
        .agg(best)
        .select("image_id", "best.representative_id", F.col("best.distance").alias(_DISTANCE))
    )


def pair_settings(manifest: Manifest, config: DuplicatesConfig) -> PairSettings:
    """Return how pairs are looked for; a search begins with the effort of `FIRST_K` hits."""
    return PairSettings(
        effort=choose_effort(manifest, FIRST_K, recall=config.recall),
        threshold=config.threshold,
        most=config.max_neighbours,
    )


@contextmanager
def find_clusters(
    passes: DuplicatePasses, settings: PairSettings, timed: Timed
) -> Iterator[Clusters]:
    """Find copies, then pairs, then clusters; their rows are kept on disk inside the block."""
    with timed("identical"):
        copies = passes.copies().persist(StorageLevel.DISK_ONLY)
        hidden = passes.hidden(copies)
    with timed("pairs"):
        pairs = passes.pairs(hidden, settings).persist(StorageLevel.DISK_ONLY)
        counted = pairs.agg(F.count("*"), F.count("second")).collect()[0]
    complete = pairs.where(F.col("second").isNotNull())
    with timed("clusters"):
        members = passes.members(complete, copies).persist(StorageLevel.DISK_ONLY)
    yield Clusters(
        members=members,
        n_identical=sum(map(len, hidden.values())),
        n_pairs=counted[1],
        n_unfinished=counted[0] - counted[1],
    )
    for frame in (copies, pairs, members):
        frame.unpersist()


def draw_clusters(
    passes: DuplicatePasses, members: DataFrame, clusters: Sequence[tuple[str, int]], folder: str
) -> None:
    """Store a contact sheet of each of some clusters, given by representative and size."""
    rows = passes.first_members(members, [owner for owner, _ in clusters], MAX_ON_SHEET + 1)
    uris = passes.uris([row.image_id for row in rows])
    for number, (representative, size) in enumerate(clusters, start=1):
        cluster = [
            (row.image_id, uris.get(row.image_id, row.image_id), row.distance_to_representative)
            for row in rows
            if row.representative_id == representative
        ]
        file = io.BytesIO()
        cluster_sheet(size, cluster).save(file, "PNG")
        name = f"{number:03d}-{cluster_id(representative)}.png"
        storage.put(storage.join(storage.canonical_uri(folder), name), file.getvalue())
