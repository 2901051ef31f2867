"""Tasks on executors with a promised GPU, as a process of its own; prints what each task saw.

usage: python -m tests.jobs.gpu_session DISCOVERY_SCRIPT

No GPU is needed: the script that Spark asks for addresses is the test's, and TensorFlow, which
would use the GPU, is not started.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import pyarrow as pa


def seen(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Pin the task's GPU as an extraction does, and tell what this process may see."""
    from pyspark import TaskContext

    from pool3.engines import pin_gpu
    from udfs.extract import gpu_addresses

    for _ in batches:
        pass
    pinned = pin_gpu(gpu_addresses(TaskContext.get()))
    told = json.dumps([pinned, os.environ["CUDA_VISIBLE_DEVICES"]])
    yield pa.RecordBatch.from_pydict({"told": [told]})


def main() -> None:
    """Run two tasks."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local-cluster[1,1,1024]")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.worker.resource.gpu.amount": "1",
        "spark.worker.resource.gpu.discoveryScript": sys.argv[1],
        "spark.executor.resource.gpu.amount": "1",
        "spark.task.resource.gpu.amount": "1",
    }.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    rows = spark.range(2).repartition(2).mapInArrow(seen, "told string").collect()
    print(json.dumps([json.loads(row.told) for row in rows]))


if __name__ == "__main__":
    main()
