"""build-index: feature table in, index snapshot out, published.

Two passes over the table: the first adds up what PCA is fitted from, the second deals the rows to
shards, each built by one task on its local disk and then stored. The manifest names what counts,
and one entry in the publication log makes it the index that readers open.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pool3 import storage
from pool3.distances import METRICS
from pool3.errors import UsageError
from pool3.features.table import FeatureTable, open_features
from pool3.features.vectors import LeftOut, vector_dimension
from pool3.index.fields import Fields
from pool3.index.manifest import Manifest, ShardEntry, TableEntry
from pool3.index.publication import (
    newest_snapshot,
    next_snapshot,
    publish,
    store_reduction,
    utc_now,
    write_manifest,
)
from pool3.index.reduction import Gram, Reduction, choose_dtype, fit
from pool3.index.shards import MAX_SEED
from pool3.job import job_parser, run_job, since_start
from pool3.models import copy_model
from pool3.report import Report, new_run_id
from udfs.files import FILE_SCHEMA, file_rows
from udfs.scan import ID_SCHEMA, list_ids, merged, scan_files
from udfs.shard import ShardSettings, build_shard, deal_rows, row_schema
from udfs.spread import gather, spread

JOB = "build-index"
ROWS_A_SHARD = 250_000
# Each scan task sends its sums to the driver, 34 MB at 2048 numbers, so one a core is enough.
MOST_SCAN_TASKS = 24

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """What build-index is asked to do; the options of the command line, checked."""

    features: str
    index: str
    metric: str = "angular"
    n_trees: int = 50
    n_shards: int | None = None
    seed: int = 1
    vectors_dtype: str = "auto"
    report: str | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError(
                f"expected --metric to be one of {', '.join(METRICS)}, found {self.metric!r}"
            )
        for option, value in (("--n-trees", self.n_trees), ("--n-shards", self.n_shards)):
            if value is not None and value < 1:
                raise UsageError(f"expected {option} of at least 1, found {value}")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"expected --seed from 0 to {MAX_SEED}, found {self.seed}")
        storage.canonical_uri(self.index)

    @property
    def output_uri(self) -> str:
        """The index, canonical."""
        return storage.canonical_uri(self.index)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
        "Build a snapshot of an index from a feature table and publish it. The table is one that\n"
        "extract-features wrote, or any folder of Parquet files with the columns image_id and\n"
        "features. Vectors that cannot be indexed are counted, named and left out.",
        "example:\n"
        "  ./submit.sh build-index --features build/features --index build/index\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments (nothing written)",
    )
    parser.add_argument("--features", required=True, metavar="TABLE", help="the feature table")
    parser.add_argument("--index", required=True, metavar="DIR", help="made if it is not there")
    parser.add_argument(
        "--metric",
        default=BuildConfig.metric,
        help=f"{', '.join(METRICS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--n-trees",
        type=int,
        default=BuildConfig.n_trees,
        metavar="N",
        help="more find more of the true neighbours, and cost time and bytes "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--n-shards",
        type=int,
        metavar="N",
        help=f"how many tasks build, and files a reader opens (default: one for {ROWS_A_SHARD:,} "
        "rows)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=BuildConfig.seed,
        metavar="N",
        help="of the trees' random splits (default: %(default)s)",
    )
    parser.add_argument(
        "--vectors-dtype",
        default=BuildConfig.vectors_dtype,
        choices=("auto", "float16", "float32"),
        help="of the vectors that rank the best candidates: float16 halves them; auto takes "
        "float32 where float16 would round too much (default: %(default)s)",
    )
    return parser


def configure(arguments: argparse.Namespace) -> BuildConfig:
    """Return the configuration of a parsed command line."""
    return BuildConfig(**vars(arguments))


def run(spark: SparkSession, config: BuildConfig) -> Report:
    """Build a snapshot and publish it; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    table = open_features(config.features)
    dimension = vector_dimension(table)
    if table.foreign:
        _require_unique_ids(spark, table)
    report.seconds["startup"] = since_start()
    with report.timed("scan"):
        gram, left_out = _scan(spark, table, config.metric, dimension)
    if gram.count == 0:
        raise UsageError(
            f"expected usable vectors of length {dimension} in {table.uri}, found none "
            f"({_told(left_out)}); nothing can be indexed"
        )
    manifest = _build(spark, config, table, report, gram, left_out)
    write_manifest(config.output_uri, manifest)
    publish(config.output_uri, manifest.snapshot_id, by=report.run_id, why="built")
    _fill(report, manifest, left_out)
    return report


def _files(spark: SparkSession, table: FeatureTable, most_tasks: int | None = None) -> DataFrame:
    """Return the table's files, spread over tasks."""
    n_tasks = min(len(table.files), most_tasks or len(table.files))
    return spread(spark, file_rows(table.files), FILE_SCHEMA, n_tasks)


def _require_unique_ids(spark: SparkSession, table: FeatureTable) -> None:
    """Refuse a foreign table in which two rows have one id; in our own, ids are unique."""
    ids = _files(spark, table).mapInArrow(list_ids(table), ID_SCHEMA)
    repeated = ids.groupBy("image_id").count().where(F.col("count") > 1)
    found = [row.image_id for row in repeated.orderBy("image_id").limit(5).collect()]
    if found:
        raise UsageError(
            f"expected each image_id once in {table.uri}, found several rows of "
            f"{', '.join(map(repr, found))}; remove the duplicates"
        )


def _scan(
    spark: SparkSession, table: FeatureTable, metric: str, dimension: int
) -> tuple[Gram, LeftOut]:
    function = scan_files(table, dimension=dimension, metric=metric)
    files = _files(spark, table, min(MOST_SCAN_TASKS, spark.sparkContext.defaultParallelism))
    return merged(gather(files, function, label="reading vectors"), metric)


def _build(
    spark: SparkSession,
    config: BuildConfig,
    table: FeatureTable,
    report: Report,
    gram: Gram,
    left_out: LeftOut,
) -> Manifest:
    """Store everything that the snapshot will name; returns its manifest."""
    parent = newest_snapshot(config.output_uri)
    snapshot = next_snapshot(parent)
    with report.timed("fit"):
        reduction = fit(gram)
    dtype = choose_dtype(gram, config.vectors_dtype)
    with report.timed("build"):
        shards = _shards(spark, config, table, gram, reduction, dtype)
    model_id = table.model_id()
    model = None if model_id is None else f"models/{model_id}"
    if model_id is not None and model is not None:
        copy_model(table.model_uri(model_id), storage.join(config.output_uri, model))
    return Manifest(
        snapshot_id=snapshot,
        parent=parent,
        created_at=utc_now(),
        run_id=report.run_id,
        metric=config.metric,
        dimension=gram.dimension,
        reduction=store_reduction(
            config.output_uri, reduction, snapshot=snapshot, unique=uuid.uuid4().hex
        ),
        n_trees=config.n_trees,
        seed=config.seed,
        vectors_dtype=dtype,
        model_id=model_id,
        model=model,
        table=TableEntry(uri=table.uri, version=table.version),
        rows=gram.count,
        counts={"indexed": gram.count, "skipped": left_out.skipped, **left_out.errors},
        shards=shards,
    )


def _shards(
    spark: SparkSession,
    config: BuildConfig,
    table: FeatureTable,
    gram: Gram,
    reduction: Reduction,
    dtype: str,
) -> tuple[ShardEntry, ...]:
    """Build and store the shards; one that no row fell to is an entry without files."""
    n_shards = config.n_shards or math.ceil(gram.count / ROWS_A_SHARD)
    deal = deal_rows(table, dimension=gram.dimension, metric=config.metric, n_shards=n_shards)
    rows = _files(spark, table).mapInArrow(deal, row_schema(table))
    settings = ShardSettings(
        index_uri=config.output_uri, n_trees=config.n_trees, seed=config.seed, vectors_dtype=dtype
    )
    function = build_shard(settings, spark.sparkContext.broadcast(reduction))
    frame = rows.repartitionById(n_shards, "shard").sortWithinPartitions("image_id")
    built = {
        task["number"]: ShardEntry.read(Fields(task, "the summary of a shard"))
        for task in gather(frame, function, label="building shards")
    }
    return tuple(
        built.get(number, ShardEntry(number=number, rows=0, seed=config.seed, max_norm=0, files={}))
        for number in range(n_shards)
    )


def _told(left_out: LeftOut) -> str:
    counts = {"not ok": left_out.skipped, **left_out.errors}
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)


def _fill(report: Report, manifest: Manifest, left_out: LeftOut) -> None:
    if left_out.errors:
        log.warning("left out of the index: %s", _told(left_out))
    report.counts.update(
        ok=manifest.rows, failed=sum(left_out.errors.values()), skipped=left_out.skipped
    )
    report.errors = dict(left_out.errors)
    report.model_id = manifest.model_id
    report.details.update(
        snapshot_id=manifest.snapshot_id,
        metric=manifest.metric,
        dimension=manifest.dimension,
        reduced_dimension=manifest.reduction.dimension,
        explained_variance=manifest.reduction.explained_variance,
        vectors_dtype=manifest.vectors_dtype,
        n_trees=manifest.n_trees,
        shards=[shard.rows for shard in manifest.shards],
        bytes=manifest.bytes,
        left_out=left_out.named,
        table={"uri": manifest.table.uri, "version": manifest.table.version},
    )


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return run_job(
        JOB,
        argv,
        parser=arg_parser(),
        configure=configure,
        run=lambda config: run(SparkSession.builder.appName(JOB).getOrCreate(), config),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
