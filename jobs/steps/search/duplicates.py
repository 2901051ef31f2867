"""The passes of find-duplicates over an index, seen from the driver: copies, pairs, clusters."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F

from jobs.options.find_duplicates import JOB, DuplicatesConfig
from jobs.runtime.report import Report
from jobs.steps.search.search import to_groups
from jobs.steps.tasks import gather, search_tasks, shard_frame
from pool3 import storage
from pool3.search.duplicates import cluster_id, cluster_sheet, representatives
from pool3.storage.result_table import replace_rows
from pool3.storage.tables import TableFile
from udfs.duplicates import (
    ASKING_SCHEMA,
    CONTENT_SCHEMA,
    DUPLICATE_SCHEMA,
    PAIR_SCHEMA,
    PairSettings,
    asking_rows,
    find_uris,
    largest,
    list_content,
    near_pairs,
    write_duplicates,
)
from udfs.search import OpenIndex

log = logging.getLogger(__name__)

#: Rows by the number of their shard.
HiddenRows = Mapping[int, npt.NDArray[np.int64]]

_DISTANCE = "distance_to_representative"


class Passes:
    """The steps, each a pass of Spark.

    Parameters
    ----------
    spark
        The session.
    index
        An index with live rows.
    """

    def __init__(self, spark: SparkSession, index: OpenIndex) -> None:
        self._spark = spark
        self._groups = len(index.groups)
        self._entries = [entry for entry in index.manifest.shards if entry.live]
        self._index = spark.sparkContext.broadcast(index)

    def _shards(self) -> DataFrame:
        return shard_frame(self._spark, self._entries)

    def copies(self) -> DataFrame:
        """Return the rows whose bytes are those of another, its id as ``original``, the first one.

        Columns: ``image_id, original, shard, row``.
        """
        content = self._shards().mapInArrow(list_content(self._index), CONTENT_SCHEMA)
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

    def pairs(
        self, hidden: Mapping[int, npt.NDArray[np.int64]], settings: PairSettings
    ) -> DataFrame:
        """Return rows of `PAIR_SCHEMA`, each pair once; the `hidden` rows are in none."""
        rows = self._spark.sparkContext.broadcast(hidden)
        asking = self._shards().mapInArrow(asking_rows(self._index, rows), ASKING_SCHEMA)
        asked = to_groups(asking, self._groups, search_tasks(self._spark), "image_id")
        found = asked.mapInArrow(near_pairs(self._index, rows, settings), PAIR_SCHEMA)
        return found.groupBy("first", "second").agg(F.min("distance").alias("distance"))

    def members(self, pairs: DataFrame, copies: DataFrame) -> DataFrame:
        """Return rows of `MEMBER_SCHEMA`: representatives, what is near them, and copies."""
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
    ) -> list[dict[str, Any]]:
        """Store the rows of the result; returns what `write_duplicates` tells of each task."""
        n_tasks = self._spark.sparkContext.defaultParallelism
        ordered = members.repartition(n_tasks, "representative_id").sortWithinPartitions(
            "representative_id", _DISTANCE, "image_id"
        )
        function = write_duplicates(table_uri, run_id, n_largest)
        return gather(ordered, function, label="writing clusters")

    def shown(self, members: DataFrame, chosen: Sequence[str], most: int) -> list[Row]:
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
        """Return where some pictures are, those left out of which the index does not tell it."""
        wanted = self._spark.sparkContext.broadcast(ids)
        tasks = gather(self._shards(), find_uris(self._index, wanted), label="finding pictures")
        return {one: uri for task in tasks for one, uri in task["uris"].items() if uri}


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
            F.col(one).alias("image_id"), F.col(other).alias("representative_id"), "distance"
        )
        for one, other in ways
    ]
    near = both[0].unionByName(both[1]).join(leaders, "representative_id", how="inner")
    best = F.min(F.struct("distance", "representative_id")).alias("best")
    return (
        near.groupBy("image_id")
        .agg(best)
        .select("image_id", "best.representative_id", F.col("best.distance").alias(_DISTANCE))
    )


# The effort that a search begins with is that of so many hits.
FIRST_K = 10


SHOWN = 20


def find(
    config: DuplicatesConfig,
    passes: Passes,
    settings: PairSettings,
    version: int | None,
    report: Report,
) -> None:
    """Find copies, then pairs, then clusters; store these, and draw the largest."""
    with report.timed("identical"):
        copies = passes.copies().persist(StorageLevel.DISK_ONLY)
        hidden = passes.hidden(copies)
        report.details["identical"] = sum(map(len, hidden.values()))
    with report.timed("pairs"):
        found = passes.pairs(hidden, settings).persist(StorageLevel.DISK_ONLY)
        _count_pairs(report, found, config)
    with report.timed("clusters"):
        pairs = found.where(F.col("second").isNotNull())
        members = passes.members(pairs, copies).persist(StorageLevel.DISK_ONLY)
        ranked = _store(config, passes, members, version, report)
    if config.sheet_dir is not None:
        with report.timed("sheets"):
            _draw(passes, members, ranked, config.sheet_dir)
    for frame in (copies, found, members):
        frame.unpersist()


def _count_pairs(report: Report, found: DataFrame, config: DuplicatesConfig) -> None:
    counted = found.agg(F.count("*"), F.count("second")).collect()[0]
    unfinished = counted[0] - counted[1]
    report.details.update(pairs=counted[1], unfinished=unfinished)
    if unfinished:
        warning = (
            f"{unfinished} pictures have {config.max_neighbours} neighbours or more within the "
            "threshold in one shard, and of these no more were looked at; lower --threshold, or "
            "raise --max-neighbours"
        )
        report.warnings.append(warning)
        log.warning("%s", warning)


def _store(
    config: DuplicatesConfig,
    passes: Passes,
    members: DataFrame,
    read_version: int | None,
    report: Report,
) -> list[tuple[str, int]]:
    """Write the table; returns representatives and sizes of its largest clusters."""
    tasks = passes.write(
        members, table_uri=config.output_uri, run_id=report.run_id, n_largest=config.sheets
    )
    files = [TableFile.from_dict(task["file"]) for task in tasks if task["file"] is not None]
    table_version = replace_rows(
        config.output_uri,
        schema=DUPLICATE_SCHEMA,
        files=files,
        read_version=read_version,
        run_id=report.run_id,
        job=JOB,
    )
    ranked = largest([tuple(one) for task in tasks for one in task["largest"]], config.sheets)
    report.details.update(
        pictures=sum(file.rows for file in files),
        clusters=sum(task["clusters"] for task in tasks),
        largest=[{"representative_id": one, "pictures": size} for one, size in ranked],
        table_version=table_version,
    )
    return ranked


def _draw(
    passes: Passes, members: DataFrame, ranked: Sequence[tuple[str, int]], folder: str
) -> None:
    """Store a contact sheet of each of some clusters."""
    shown = passes.shown(members, [one for one, _ in ranked], SHOWN + 1)
    uris = passes.uris([row.image_id for row in shown])
    for number, (representative, size) in enumerate(ranked, start=1):
        cluster = [
            (row.image_id, uris.get(row.image_id, row.image_id), row.distance_to_representative)
            for row in shown
            if row.representative_id == representative
        ]
        file = io.BytesIO()
        cluster_sheet(size, cluster).save(file, "PNG")
        name = f"{number:03d}-{cluster_id(representative)}.png"
        storage.put(storage.join(storage.canonical_uri(folder), name), file.getvalue())
