"""Which files of an index hold some pictures, whichever snapshot names them."""

from __future__ import annotations

from collections.abc import Set

import pyarrow as pa
from pyspark.sql import SparkSession

from jobs.steps.tasks import gather, spread
from pool3 import storage
from pool3.errors import InvalidIndex
from pool3.index.recall.samples import SampleQueries
from pool3.index.snapshots.retention import IndexListing
from udfs.find_ids import PATH_SCHEMA, find_ids


def files_with_ids(
    spark: SparkSession, stored: IndexListing, ids: Set[str]
) -> dict[str, list[str] | None]:
    """Return the files of ids and of samples that hold some ids, with these.

    None stands for the ids where a file cannot be read, so that it may hold any.
    """
    files = _sample_files_with_ids(stored, ids)
    paths = [path for path in sorted(stored.objects) if _is_of_ids(path)]
    if paths:
        wanted = spark.sparkContext.broadcast(ids)
        n_tasks = min(len(paths), 4 * spark.sparkContext.defaultParallelism)
        frame = spread(spark, pa.table({"path": paths}), PATH_SCHEMA, n_tasks)
        function = find_ids(stored.index_uri, wanted)
        for task in gather(frame, function, label="looking for ids"):
            files[task["path"]] = task["ids"]
    return files


def _is_of_ids(path: str) -> bool:
    return path.startswith("shards/") and path.endswith("/ids.arrow")


def _sample_files_with_ids(stored: IndexListing, ids: Set[str]) -> dict[str, list[str] | None]:
    files: dict[str, list[str] | None] = {}
    for path, item in stored.objects.items():
        if path.startswith("snapshots/") and "/samples-" in path:
            try:
                samples = SampleQueries.from_bytes(storage.fetch(item.uri))
            except InvalidIndex:
                files[path] = None
                continue
            contained = sorted(ids & set(samples.ids))
            if contained:
                files[path] = contained
    return files
