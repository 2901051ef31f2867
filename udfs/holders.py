"""Which files of an index hold some pictures: looked for in the files, whoever names them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from pool3 import storage
from pool3.errors import InvalidIndex
from pool3.index.retention import Holdings
from pool3.index.samples import SampleQueries
from udfs.spread import Batches, TaskFunction, gather, spread, summary

_PATH_SCHEMA = T.StructType([T.StructField("path", T.StringType(), nullable=False)])


def holders(spark: SparkSession, held: Holdings, ids: Set[str]) -> dict[str, list[str] | None]:
    """Return the files of ids and of samples that hold some ids, with these.

    None stands for the ids where a file cannot be read, so that it may hold any.
    """
    found = _sample_holders(held, ids)
    paths = [path for path in sorted(held.objects) if _is_of_ids(path)]
    if paths:
        wanted = spark.sparkContext.broadcast(ids)
        n_tasks = min(len(paths), 4 * spark.sparkContext.defaultParallelism)
        frame = spread(spark, pa.table({"path": paths}), _PATH_SCHEMA, n_tasks)
        function = find_ids(held.index_uri, wanted)
        for task in gather(frame, function, label="looking for ids"):
            found[task["path"]] = task["ids"]
    return found


def _is_of_ids(path: str) -> bool:
    return path.startswith("shards/") and path.endswith("/ids.arrow")


def _sample_holders(held: Holdings, ids: Set[str]) -> dict[str, list[str] | None]:
    found: dict[str, list[str] | None] = {}
    for path, stored in held.objects.items():
        if path.startswith("snapshots/") and "/samples-" in path:
            try:
                samples = SampleQueries.from_bytes(storage.fetch(stored.uri))
            except InvalidIndex:
                found[path] = None
                continue
            held_ids = sorted(ids & set(samples.ids))
            if held_ids:
                found[path] = held_ids
    return found


def find_ids(index_uri: str, ids: Any) -> TaskFunction:
    """Return the function that tells which of some files hold some ids.

    Its summaries are ``{"path", "ids"}`` of such a file, with null for ids where the file cannot be
    read.

    Parameters
    ----------
    ids
        Spark broadcast of the set of ids.
    """

    def run(batches: Batches) -> Batches:
        wanted = pa.array(sorted(ids.value), pa.string())
        for batch in batches:
            for path in batch.column("path").to_pylist():
                found = _ids_in(storage.join(index_uri, path), wanted)
                if found is None or found:
                    yield summary({"path": path, "ids": found})

    return run


def _ids_in(uri: str, wanted: pa.Array) -> Sequence[str] | None:
    found: list[str] = []
    try:
        with storage.open_input(uri) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                ids = reader.get_batch(number).column("image_id")
                found += ids.filter(pc.is_in(ids, wanted)).to_pylist()
    except (pa.ArrowException, KeyError, OSError):
        return None
    return found
